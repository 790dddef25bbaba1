//! The `#[persistent_server]` attribute. Use it through `persistent-runtime`,
//! which re-exports it.

mod check;
mod errors;
mod expand;
mod model;
mod options;
mod parse;
mod syntax;
#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use quote::quote;

use crate::{
    check::check, errors::Errors, expand::expand, model::Server, options::Options, parse::Block,
};

#[doc = include_str!("persistent_server.md")]
#[proc_macro_attribute]
pub fn persistent_server(
    arguments: proc_macro::TokenStream,
    input: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    server(arguments.into(), &input.into()).into()
}

/// Returns the user's block, the generated items and the errors. A function with
/// an error is left out of the generated items, and the others are kept.
fn server(arguments: TokenStream, input: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(block) = Block::parse(input) else {
        errors.push(syn::Error::new(
            Span::call_site(),
            "`#[persistent_server]` goes on an inherent impl block: `impl Player { … }`",
        ));
        return quote!(#input #errors);
    };
    let options = Options::parse(arguments, &mut errors);
    let generated = Server::read(&block, options, &mut errors)
        .and_then(|server| check(server, &mut errors))
        .map(|server| expand(&server));
    let item = &block.item;
    quote!(#item #generated #errors)
}
