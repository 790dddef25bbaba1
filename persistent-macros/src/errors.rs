//! The errors found in an annotated block.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::Attribute;

/// All errors found so far, each with the tokens that it underlines, and with the `cfg` of the
/// function that it is about.
#[derive(Default)]
pub(crate) struct Errors(Vec<(TokenStream, syn::Error)>);

impl Errors {
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.0.push((TokenStream::new(), error));
    }

    /// Reports an error that underlines all of `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Runs `check`. Returns true if it reports no error.
    pub(crate) fn passes(&mut self, check: impl FnOnce(&mut Self)) -> bool {
        let before = self.0.len();
        check(self);
        self.0.len() == before
    }

    /// Runs `check` as [`passes`](Self::passes) does. Its errors are none where `cfgs` remove the
    /// function.
    pub(crate) fn passes_under<'a>(
        &mut self,
        cfgs: impl Iterator<Item = &'a Attribute>,
        check: impl FnOnce(&mut Self),
    ) -> bool {
        let before = self.0.len();
        check(self);
        let cfgs: Vec<_> = cfgs.collect();
        for (condition, _) in &mut self.0[before..] {
            *condition = quote!(#(#cfgs)*);
        }
        self.0.len() == before
    }

    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.0.iter().map(|(_, error)| error.to_string()).collect()
    }
}

impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        for (condition, error) in &self.0 {
            tokens.extend(condition.clone());
            tokens.extend(error.to_compile_error());
        }
    }
}
