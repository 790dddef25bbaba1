//! The annotated block as the user wrote it, method bodies unparsed.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, ImplItem, ItemImpl, Result, Signature, Visibility,
    parse::{Parse, ParseStream, Parser, discouraged::Speculative},
};

/// The attributes that mean something inside an annotated block.
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
    /// The block to hand back to rustc: all the user's own tokens but for the
    /// helper attributes, each item verbatim.
    pub(crate) item: ItemImpl,
    /// Its functions, in source order.
    pub(crate) functions: Vec<Function>,
}

/// A function of the block, without its body.
pub(crate) struct Function {
    /// The attributes that stay.
    pub(crate) attrs: Vec<Attribute>,
    /// The attributes that are stripped.
    pub(crate) helpers: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: Group,
}

impl Block {
    /// Input: any item. None unless it is an impl block.
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

/// One item of an impl block up to its `;` or body. What rustc can't parse
/// either ends up here too: rustc has reported it already.
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
            return Err(syn::Error::new(body.span(), "expected a function's body"));
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
