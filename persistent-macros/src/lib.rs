//! The `#[persistent_server]` attribute of `persistent-runtime`, which
//! re-exports it.

mod check;
mod errors;
mod expand;
mod model;
mod options;
mod parse;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use quote::{ToTokens, quote};

use crate::{errors::Errors, model::Server, options::Options, parse::Block};

/// TODO
#[proc_macro_attribute]
pub fn persistent_server(arguments: TokenStream, input: TokenStream) -> TokenStream {
    persistent_server2(arguments.into(), input.into()).into()
}

/// The user's block, what is generated from it, and what is wrong with it:
/// mistakes don't keep the rest from being generated.
fn persistent_server2(
    arguments: proc_macro2::TokenStream,
    input: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let Some(block) = Block::parse(input.clone()) else {
        errors.push(syn::Error::new(
            proc_macro2::Span::call_site(),
            "`#[persistent_server]` goes on an inherent impl block: `impl Player { … }`",
        ));
        return quote!(#input #errors);
    };
    let options = Options::parse(arguments, &mut errors);
    let generated =
        Server::read(&block, options, &mut errors).map(|server| expand::expand(&server));
    let block = block.item.to_token_stream();
    quote!(#block #generated #errors)
}
