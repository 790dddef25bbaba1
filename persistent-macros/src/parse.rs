//! The annotated block as the user wrote it, with unparsed method bodies, so
//! that a half-typed body does not keep the other methods from expanding.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, FnArg, ImplItem, ItemImpl, Result, Signature, Visibility,
    parse::{Parse, ParseStream, Parser, discouraged::Speculative},
    parse_quote,
};

use crate::syntax::{condition, is_serde, named, split_cfg_attr};

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
    /// The functions, in source order. A function with a helper attribute behind a
    /// `cfg_attr` occurs once per case, each with a `cfg`.
    pub(crate) functions: Vec<Function>,
}

/// A function of the block.
#[derive(Clone)]
pub(crate) struct Function {
    /// All other attributes.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) helpers: Vec<Attribute>,
    /// The serde attributes of its message.
    pub(crate) stored: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: TokenTree,
}

impl Block {
    /// Returns `None` if `input` is not an impl block.
    pub(crate) fn parse(input: &TokenStream) -> Option<Self> {
        let mut tokens = ungrouped(input.clone());
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
                    functions.extend(function.cases());
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

/// Returns the tokens of an item without the invisible group that a macro's `$item:item` puts
/// around it.
fn ungrouped(tokens: TokenStream) -> Vec<TokenTree> {
    let mut tokens: Vec<_> = tokens.into_iter().collect();
    while let Some(TokenTree::Group(group)) = tokens
        .pop_if(|tree| matches!(tree, TokenTree::Group(g) if g.delimiter() == Delimiter::None))
    {
        tokens.extend(group.stream());
    }
    tokens
}

/// Returns one item of an impl block, up to its `;` or body. This includes
/// items with syntax errors, which rustc reports itself.
fn verbatim(input: ParseStream) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() {
        let tree: TokenTree = input.parse()?;
        let last = matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == ';')
            || ends_with_body(&tree);
        tokens.extend([tree]);
        if last {
            break;
        }
    }
    Ok(tokens)
}

/// Returns true for a body in braces, also if it comes from a macro's `$body:block` or is the last
/// part of its `$item:item`.
fn ends_with_body(tree: &TokenTree) -> bool {
    let TokenTree::Group(group) = tree else { return false };
    match group.delimiter() {
        Delimiter::Brace => true,
        Delimiter::None => group.stream().into_iter().last().is_some_and(|last| {
            matches!(&last, TokenTree::Punct(punct) if punct.as_char() == ';')
                || ends_with_body(&last)
        }),
        _ => false,
    }
}

impl Function {
    /// Returns true for a method that is a message unless a helper attribute says otherwise.
    pub(crate) fn is_callable(&self) -> bool {
        let visible = match &self.vis {
            Visibility::Public(_) => true,
            Visibility::Restricted(vis) => !vis.path.is_ident("self"),
            Visibility::Inherited => false,
        };
        visible && self.sig.receiver().is_some()
    }

    /// Returns true if generated code calls the function.
    fn is_called(&self) -> bool {
        match &self.helpers[..] {
            [] => self.is_callable(),
            helpers => !helpers.iter().all(|helper| named(helper, "skip")),
        }
    }

    /// Splits a function whose helper attributes depend on conditions into one function per case.
    fn cases(self) -> Vec<Self> {
        let conditions: Vec<_> = self.helpers.iter().filter_map(condition).collect();
        if conditions.is_empty() {
            return vec![self];
        }
        let (conditional, always): (Vec<_>, Vec<_>) =
            self.helpers.iter().cloned().partition(|helper| condition(helper).is_some());
        let case = |helper: Option<Attribute>, cfg: Attribute| {
            let mut function = self.clone();
            function.helpers = always.iter().cloned().chain(helper).collect();
            function.attrs.push(cfg);
            function
        };
        let otherwise = case(None, parse_quote!(#[cfg(not(any(#(#conditions),*)))]));
        let cases = conditional.into_iter().zip(&conditions);
        cases
            .map(|(helper, condition)| case(Some(helper), parse_quote!(#[cfg(#condition)])))
            .chain([otherwise])
            .collect()
    }
}

impl Parse for Function {
    fn parse(input: ParseStream) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let (helpers, attrs) = attrs
            .into_iter()
            .flat_map(split_cfg_attr)
            .partition::<Vec<_>, _>(|attr| HELPERS.iter().any(|helper| named(attr, helper)));
        let (stored, attrs) = attrs.into_iter().partition(is_serde);
        let (vis, sig) = (input.parse()?, input.parse()?);
        let body: TokenTree = input.parse()?;
        if !ends_with_body(&body) {
            return Err(syn::Error::new(body.span(), "expected a function body"));
        }
        Ok(Self { attrs, helpers, stored, vis, sig, body })
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body, .. } = self;
        // The client's method is deprecated instead. Generated code calls this one, and could not
        // allow that in a crate that forbids the lint.
        let attrs = attrs.iter().filter(|attr| !(self.is_called() && named(attr, "deprecated")));
        let mut sig = sig.clone();
        for input in &mut sig.inputs {
            if let FnArg::Typed(parameter) = input {
                parameter.attrs.retain(|attr| !is_serde(attr));
            }
        }
        tokens.extend(quote!(#(#attrs)* #vis #sig #body));
    }
}
