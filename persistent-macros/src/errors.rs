//! The sink of everything that is wrong with an annotated block.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// Every mistake found so far, each under its own token.
#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    /// A mistake under all of `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Runs `checks`; true if they found nothing.
    pub(crate) fn none_from(&mut self, checks: impl FnOnce(&mut Self)) -> bool {
        let before = self.0.len();
        checks(self);
        self.0.len() == before
    }

    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.iter().map(syn::Error::to_compile_error));
    }
}
