//! Identifiers, spans and `Self` in generated code.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Ident, spanned::Spanned};

use crate::model::Server;

/// Returns `ident` with its location but resolved at the call site. A generated
/// item of that name is visible to the user, and lints recognize that the user
/// did not write it.
pub(super) fn at_call_site(ident: &Ident) -> Ident {
    let mut ident = ident.clone();
    ident.set_span(ident.span().resolved_at(Span::call_site()));
    ident
}

/// Returns the location of the user's tokens, resolved at the call site. `self`
/// and local variables with this span resolve to those of the generated function,
/// also if a macro passed the tokens in.
pub(super) fn user_span(tokens: &impl Spanned) -> Span {
    tokens.span().resolved_at(Span::call_site())
}

/// Replaces `Self` by the server's type, for use outside of the impl block.
pub(super) fn replace_self(tokens: TokenStream, server: &Server) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut replaced = TokenStream::new();
    while let Some(tree) = tokens.next() {
        match tree {
            TokenTree::Ident(ident) if ident == "Self" => {
                let self_ty = with_span(server.self_ty.to_token_stream(), ident.span());
                let in_path =
                    matches!(tokens.peek(), Some(TokenTree::Punct(p)) if p.as_char() == ':');
                replaced.extend(if in_path { quote!(<#self_ty>) } else { self_ty });
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), replace_self(group.stream(), server));
                inner.set_span(group.span());
                replaced.extend([TokenTree::Group(inner)]);
            }
            other => replaced.extend([other]),
        }
    }
    replaced
}

/// Returns `tokens` with the span of each token replaced.
pub(super) fn with_span(tokens: TokenStream, span: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|tree| match tree {
            TokenTree::Group(group) => {
                TokenTree::Group(Group::new(group.delimiter(), with_span(group.stream(), span)))
            }
            other => other,
        })
        .map(|mut tree| {
            tree.set_span(span);
            tree
        })
        .collect()
}

/// Returns a path as a string, for serde's attributes and for links.
pub(super) fn path_string(path: &TokenStream) -> String {
    path.to_string().replace(' ', "")
}
