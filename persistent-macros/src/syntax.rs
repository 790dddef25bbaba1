//! Questions about the user's types, signatures and attributes that their
//! tokens answer.

use std::mem::replace;

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Expr, ExprLit, GenericArgument, Ident, Lit, LitStr, Meta, Path, PathArguments,
    Receiver, ReceiverKind, ReturnType, Signature, Token, Type, TypeReference, parse::ParseStream,
    parse_quote, punctuated::Punctuated,
};

/// Returns the type without the invisible groups and parentheses around it.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        _ => ty,
    }
}

pub(crate) fn as_reference(ty: &Type) -> Option<&TypeReference> {
    match bare(ty) {
        Type::Reference(reference) => Some(reference),
        _ => None,
    }
}

/// Returns the last segment of a type that is a plain path.
pub(crate) fn last_segment(ty: &Type) -> Option<&Ident> {
    match bare(ty) {
        Type::Path(ty) if ty.qself.is_none() => Some(&ty.path.segments.last()?.ident),
        _ => None,
    }
}

/// Returns the `T` of a `Reply<T>`.
pub(crate) fn reply_result(ty: &Type) -> Option<&Type> {
    argument_of(ty, "Reply")
}

/// Returns the `T` of an `Option<T>`.
pub(crate) fn option_content(ty: &Type) -> Option<&Type> {
    argument_of(ty, "Option")
}

/// Returns the `T` of a `Name<T>`.
pub(crate) fn argument_of<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(ty) = bare(ty) else { return None };
    let segment = ty.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match (segment.ident == name, arguments.args.first(), arguments.args.len()) {
        (true, Some(GenericArgument::Type(ty)), 1) => Some(ty),
        _ => None,
    }
}

pub(crate) fn is_unit(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(bare(ty), Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}

/// Returns true if a type contains a reference or a lifetime other than
/// `'static`. Aliases of such types are not recognized.
pub(crate) fn borrows(ty: TokenStream) -> bool {
    let mut after_quote = false;
    ty.into_iter().any(|tree| {
        let lifetime = replace(
            &mut after_quote,
            matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == '\''),
        );
        match tree {
            TokenTree::Punct(punct) => punct.as_char() == '&',
            TokenTree::Ident(ident) => lifetime && ident != "static",
            TokenTree::Group(group) => borrows(group.stream()),
            TokenTree::Literal(_) => false,
        }
    })
}

/// Returns true if a method takes `&self` in one of its forms.
pub(crate) fn reads(sig: &Signature) -> bool {
    match sig.receiver().map(|receiver| &receiver.kind) {
        Some(ReceiverKind::Reference(_, _, mutability)) => mutability.is_none(),
        Some(ReceiverKind::Typed(_, ty)) => {
            as_reference(ty).is_some_and(|ty| ty.mutability.is_none())
        }
        _ => false,
    }
}

/// Returns true for `&self` and `&mut self` in all their forms.
pub(crate) fn by_reference(receiver: &Receiver) -> bool {
    match &receiver.kind {
        ReceiverKind::Reference(..) => true,
        ReceiverKind::Typed(_, ty) => as_reference(ty)
            .and_then(|reference| last_segment(&reference.elem))
            .is_some_and(|ident| ident == "Self"),
        _ => false,
    }
}

/// Returns the predicate and the attributes of a `cfg_attr`.
fn cfg_attr(attr: &Attribute) -> Option<(TokenStream, Vec<Meta>)> {
    let Meta::List(list) = &attr.meta else { return None };
    let parser = |input: ParseStream| {
        let predicate: Meta = input.parse()?;
        input.parse::<Token![,]>()?;
        let attrs = Punctuated::<Meta, Token![,]>::parse_terminated(input)?;
        Ok((predicate.to_token_stream(), attrs.into_iter().collect()))
    };
    list.path.is_ident("cfg_attr").then(|| list.parse_args_with(parser).ok()).flatten()
}

/// Splits `#[cfg_attr(p, a, b)]` into `#[cfg_attr(p, a)]` and `#[cfg_attr(p, b)]`.
pub(crate) fn split_cfg_attr(attr: Attribute) -> Vec<Attribute> {
    let Some((predicate, attrs)) = cfg_attr(&attr) else { return vec![attr] };
    let with = |meta: Meta| {
        let mut part = attr.clone();
        part.meta = meta;
        part
    };
    let inner = attrs.into_iter().flat_map(|meta| split_cfg_attr(with(meta)));
    let outer = |Attribute { meta, .. }: Attribute| with(parse_quote!(cfg_attr(#predicate, #meta)));
    inner.map(outer).collect()
}

/// Returns the attribute itself: the one inside of `cfg_attr`, if it is behind one.
pub(crate) fn effective(attr: &Attribute) -> Attribute {
    match cfg_attr(attr).map(|(_, attrs)| attrs) {
        Some(attrs) if attrs.len() == 1 => {
            let mut inner = attr.clone();
            inner.meta = attrs.into_iter().next().expect("there is one");
            effective(&inner)
        }
        _ => attr.clone(),
    }
}

/// Returns the condition of an attribute behind a `cfg_attr`.
pub(crate) fn condition(attr: &Attribute) -> Option<TokenStream> {
    let (predicate, attrs) = cfg_attr(attr)?;
    let mut inner = attr.clone();
    inner.meta = attrs.into_iter().next()?;
    Some(match condition(&inner) {
        Some(more) => quote!(all(#predicate, #more)),
        None => predicate,
    })
}

/// Returns true for the attribute `name`, also behind a `cfg_attr`.
pub(crate) fn named(attr: &Attribute, name: &str) -> bool {
    effective(attr).path().is_ident(name)
}

pub(crate) fn cfgs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| named(attr, "cfg"))
}

/// Returns an `allow` for each lint that the attributes allow or expect.
pub(crate) fn allows(attrs: &[Attribute]) -> impl Iterator<Item = TokenStream> {
    attrs.iter().filter(|attr| named(attr, "allow") || named(attr, "expect")).filter_map(|attr| {
        let lints = effective(attr).meta.require_list().ok()?.tokens.clone();
        Some(match condition(attr) {
            Some(condition) => quote!(#[cfg_attr(#condition, allow(#lints))]),
            None => quote!(#[allow(#lints)]),
        })
    })
}

pub(crate) fn is_serde(attr: &Attribute) -> bool {
    attr.path().is_ident("serde")
}

/// The serde attributes that help to read earlier messages.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) aliases: Vec<LitStr>,
    /// The function of `default`.
    pub(crate) default: Option<Path>,
}

impl Stored {
    /// Reads the serde attributes among `attrs`. `takes_default` is true for an argument.
    pub(crate) fn of(attrs: &[Attribute], takes_default: bool) -> syn::Result<Self> {
        let mut stored = Self::default();
        for attr in attrs.iter().filter(|attr| is_serde(attr)) {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("alias") {
                    stored.aliases.push(meta.value()?.parse()?);
                } else if meta.path.is_ident("default") && takes_default {
                    let is_named = meta.input.peek(Token![=]);
                    let path = is_named.then(|| meta.value()?.parse::<LitStr>()?.parse());
                    let standard = || parse_quote!(::core::default::Default::default);
                    stored.default = Some(path.transpose()?.unwrap_or_else(standard));
                } else {
                    return Err(meta.error(
                        "a method takes `#[serde(alias = \"OldName\")]`, and an argument of a \
                         message `#[serde(default)]` and `#[serde(alias = \"old_name\")]`",
                    ));
                }
                Ok(())
            })?;
        }
        Ok(stored)
    }
}

pub(crate) fn is_doc(attr: &Attribute) -> bool {
    named(attr, "doc")
}

/// Returns the text of a line of documentation.
pub(crate) fn doc_text(attr: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = effective(attr).meta else { return None };
    match meta.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// Returns true for an empty line of documentation.
pub(crate) fn is_blank_doc(attr: &Attribute) -> bool {
    doc_text(attr).is_some_and(|text| text.trim().is_empty())
}
