//! Questions about the user's types, signatures and attributes that their
//! tokens answer.

use std::mem::replace;

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Expr, ExprLit, GenericArgument, Ident, Lit, Meta, PathArguments, Receiver,
    ReceiverKind, ReturnType, Signature, Type, TypeReference,
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
    let Type::Path(ty) = bare(ty) else { return None };
    let segment = ty.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match (segment.ident == "Reply", arguments.args.first(), arguments.args.len()) {
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

pub(crate) fn cfgs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("cfg"))
}

pub(crate) fn is_doc(attr: &Attribute) -> bool {
    attr.path().is_ident("doc")
}

/// Returns true for an empty line of documentation.
pub(crate) fn is_blank_doc(attr: &Attribute) -> bool {
    let Meta::NameValue(meta) = &attr.meta else { return false };
    matches!(
        &meta.value,
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if text.value().trim().is_empty()
    )
}
