//! The annotated block as the user wrote it, with unparsed method bodies, so
//! that a half-typed body does not keep the other methods from expanding.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, ImplItem, ItemImpl, Result, Signature, Visibility,
    parse::{Parse, ParseStream, Parser, discouraged::Speculative},
};

/// The helper attributes: they are read and removed.
const HELPERS: [&str; 10] = [
    "init",
    "started",
    "terminate",
    "migrate",
    "migrate_message",
    "save",
    "restore",
    "info",
    "cast",
    "skip",
];

/// An annotated impl block.
pub(crate) struct Block {
    /// The block to emit: the user's tokens without the helper attributes, each
    /// item verbatim.
    pub(crate) item: ItemImpl,
    /// The functions, in source order.
    pub(crate) functions: Vec<Function>,
}

/// A function of the block.
pub(crate) struct Function {
    /// All attributes but the helpers.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) helpers: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: Group,
}

impl Block {
    /// Returns `None` if `input` is not an impl block.
    pub(crate) fn parse(input: &TokenStream) -> Option<Self> {
        let mut tokens: Vec<TokenTree> = input.clone().into_iter().collect();
        let Some(TokenTree::Group(body)) = tokens.pop() else { return None };
        let mut empty = Group::new(body.delimiter(), TokenStream::new());
        empty.set_span(body.span());
        tokens.push(empty.into());
        let mut item: ItemImpl = syn::parse2(tokens.into_iter().collect()).ok()?;
        let mut functions = Vec::new();
        let parser = |input: ParseStream| {
            item.attrs.extend(input.call(Attribute::parse_inner)?);
            while !input.is_empty() {
                let fork = input.fork();
                let tokens = if let Ok(function) = fork.parse::<Function>() {
                    input.advance_to(&fork);
                    let tokens = function.to_token_stream();
                    functions.push(function);
                    tokens
                } else {
                    verbatim(input)?
                };
                item.items.push(ImplItem::Verbatim(tokens));
            }
            Ok(())
        };
        parser.parse2(body.stream()).ok()?;
        Some(Self { item, functions })
    }
}

/// Returns one item of an impl block, up to its `;` or body. This includes
/// items with syntax errors, which rustc reports itself.
fn verbatim(input: ParseStream) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() {
        let tree: TokenTree = input.parse()?;
        let last = match &tree {
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            _ => false,
        };
        tokens.extend([tree]);
        if last {
            break;
        }
    }
    Ok(tokens)
}

impl Parse for Function {
    fn parse(input: ParseStream) -> Result<Self> {
        let (helpers, attrs) = input
            .call(Attribute::parse_outer)?
            .into_iter()
            .partition(|attr| HELPERS.iter().any(|helper| attr.path().is_ident(helper)));
        let (vis, sig) = (input.parse()?, input.parse()?);
        let body: Group = input.parse()?;
        if body.delimiter() != Delimiter::Brace {
            return Err(syn::Error::new(body.span(), "expected a function body"));
        }
        Ok(Self { attrs, helpers, vis, sig, body })
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body, .. } = self;
        tokens.extend(quote!(#(#attrs)* #vis #sig #body));
    }
}
