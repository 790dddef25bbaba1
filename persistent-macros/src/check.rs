//! The rules, one function a rule; each mistake stands under its own token.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    FnArg, GenericParam, ItemImpl, Pat, PatType, ReceiverKind, ReturnType, Safety, Signature, Type,
    TypeReference,
};

use crate::{
    errors::Errors,
    model::{bare, borrowed, cfgs, is_unit, last_segment},
    parse::Function,
};

/// What ends a message about a method that can't be called at a distance.
const REMEDY: &str = "; `#[skip]` takes the method out, and so does dropping `pub`";

pub(crate) fn check_block(item: &ItemImpl, errors: &mut Errors) {
    if let Some((path, _)) = &item.trait_ {
        errors.at(path, "`#[persistent_server]` goes on an inherent impl block, not on a trait's");
    }
    if last_segment(&item.self_ty).is_none() {
        errors.at(&item.self_ty, "a server is a type with a name, such as `Player` or `Stack<T>`");
    }
    for parameter in &item.generics.params {
        if let GenericParam::Lifetime(lifetime) = parameter {
            errors.at(lifetime, "a server owns its state: its type can't have a lifetime");
        }
    }
}

pub(crate) fn check_method(function: &Function, cast: bool, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, REMEDY, errors);
    check_receiver(sig, REMEDY, errors);
    check_parameters(sig, Takes::Fields, errors);
    check_result(sig, errors);
    if cast {
        check_no_result(sig, "nobody waits for the result of a `#[cast]` method", errors);
    }
}

pub(crate) fn check_init(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_parameters(sig, Takes::Fields, errors);
    if is_unit(&sig.output) {
        errors.at(&sig.ident, "`#[init]` makes the state: return `Self` or `Result<Self, E>`");
    }
    for cfg in cfgs(&function.attrs) {
        errors.at(cfg, "`#[init]` can't hang on a `#[cfg]`: put it inside the function");
    }
}

pub(crate) fn check_started(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, "", errors);
    check_receiver(sig, "", errors);
    check_parameters(sig, Takes::Context, errors);
    check_no_result(sig, "nobody waits for the result of `#[started]`", errors);
}

pub(crate) fn check_terminate(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, "", errors);
    check_receiver(sig, "", errors);
    check_parameters(sig, Takes::Reason, errors);
    check_no_result(sig, "nobody waits for the result of `#[terminate]`", errors);
}

pub(crate) fn check_migrate(function: &Function, self_ty: &Type, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_parameters(sig, Takes::Old, errors);
    if let Some(token) = &sig.asyncness {
        errors.at(token, "`#[migrate]` runs while a state is read and can't wait: drop `async`");
    }
    if sig.inputs.len() != 1 {
        errors.at(&sig.ident, "`#[migrate]` takes one parameter, the old state");
    }
    let state = |ty: &Type| {
        last_segment(ty).is_some_and(|ident| ident == "Self")
            || ty.to_token_stream().to_string() == self_ty.to_token_stream().to_string()
    };
    match &sig.output {
        ReturnType::Type(_, ty) if state(ty) => {}
        ReturnType::Type(_, ty) => errors.at(ty, "`#[migrate]` returns `Self`"),
        ReturnType::Default => errors.at(&sig.ident, "`#[migrate]` returns `Self`"),
    }
}

fn check_plain(sig: &Signature, remedy: &str, errors: &mut Errors) {
    if let Safety::Unsafe(token) = &sig.safety {
        errors.at(token, format!("a server can't call an `unsafe fn`{remedy}"));
    }
    if let Some(abi) = &sig.abi {
        errors.at(abi, format!("a server calls plain Rust functions only{remedy}"));
    }
    if let Some(variadic) = &sig.variadic {
        errors.at(variadic, format!("a message has a fixed number of fields{remedy}"));
    }
    if !sig.generics.params.is_empty() {
        errors.at(
            &sig.generics,
            format!("a server can't choose generic parameters: write concrete types{remedy}"),
        );
    }
}

fn check_receiver(sig: &Signature, remedy: &str, errors: &mut Errors) {
    let Some(receiver) = sig.receiver() else {
        errors.at(&sig.ident, "this hook runs on the state: take `&mut self` or `&self`");
        return;
    };
    let by_reference = match &receiver.kind {
        ReceiverKind::Reference(..) => true,
        ReceiverKind::Typed(_, ty) => borrowed(ty)
            .and_then(|reference| last_segment(&reference.elem))
            .is_some_and(|ident| ident == "Self"),
        _ => false,
    };
    if !by_reference {
        errors.at(
            receiver,
            format!("the server keeps its state: take `&self` or `&mut self`{remedy}"),
        );
    }
}

fn check_no_receiver(sig: &Signature, errors: &mut Errors) {
    if let Some(receiver) = sig.receiver() {
        errors.at(receiver, "there is no state yet: this hook makes it, without `self`");
    }
}

/// What a function may take.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// The fields of a message, and the context.
    Fields,
    /// The context.
    Context,
    /// The reason of a stop, and the context.
    Reason,
    /// An old state.
    Old,
}

fn check_parameters(sig: &Signature, takes: Takes, errors: &mut Errors) {
    let mut seen = Vec::new();
    for input in &sig.inputs {
        let FnArg::Typed(parameter) = input else { continue };
        for cfg in cfgs(&parameter.attrs) {
            errors.at(cfg, "a parameter can't hang on a `#[cfg]`: write the method twice");
        }
        let reference = borrowed(&parameter.ty);
        let referent = reference.and_then(|ty| last_segment(&ty.elem)).map(ToString::to_string);
        match (takes, reference, referent.as_deref()) {
            (Takes::Fields | Takes::Context | Takes::Reason, Some(ty), Some("Context")) => {
                check_lent(ty, "&Context<Self>", errors);
            }
            (Takes::Reason, Some(ty), Some("StopReason")) => check_lent(ty, "&StopReason", errors),
            (Takes::Context, ..) => {
                errors.at(&parameter.ty, "`#[started]` takes nothing but `&Context<Self>`");
                continue;
            }
            (Takes::Reason, ..) => {
                errors.at(
                    &parameter.ty,
                    "`#[terminate]` takes nothing but `&StopReason` and `&Context<Self>`",
                );
                continue;
            }
            (Takes::Fields | Takes::Old, ..) => {
                check_name(&parameter.pat, errors);
                check_owned(parameter, errors);
                continue;
            }
        }
        if seen.contains(&referent) {
            errors.at(&parameter.ty, "this parameter is here twice");
        }
        seen.push(referent);
    }
}

/// The context and the reason are the runtime's.
fn check_lent(ty: &TypeReference, form: &str, errors: &mut Errors) {
    if ty.mutability.is_some() {
        errors.at(ty, format!("take `{form}`"));
    }
}

fn check_name(pat: &Pat, errors: &mut Errors) {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {}
        _ => errors.at(pat, "give the parameter a name: it becomes a field of the message"),
    }
}

fn check_owned(parameter: &PatType, errors: &mut Errors) {
    let ty = bare(&parameter.ty);
    if let Type::ImplTrait(_) = ty {
        errors.at(ty, "a message has concrete fields: name the type");
    } else if let Some(reference) = borrowed(ty) {
        let owned = match bare(&reference.elem) {
            Type::Slice(slice) => format!("`Vec<{}>`", source(&slice.elem)),
            elem if last_segment(elem).is_some_and(|ident| ident == "str") => "`String`".to_owned(),
            elem @ (Type::Path(_) | Type::Array(_) | Type::Tuple(_)) => {
                format!("`{}`", source(elem))
            }
            _ => "an owned type".to_owned(),
        };
        errors.at(ty, format!("a message owns its fields: take {owned}"));
    } else if borrows(ty.to_token_stream()) {
        errors.at(ty, "a message owns its fields: take a type without borrowed parts");
    }
}

fn check_result(sig: &Signature, errors: &mut Errors) {
    let ReturnType::Type(_, ty) = &sig.output else { return };
    let ty = bare(ty);
    if let Type::ImplTrait(_) = ty {
        errors.at(ty, format!("a reply has a concrete type: name it{REMEDY}"));
    } else if borrows(ty.to_token_stream()) {
        errors.at(ty, format!("a reply leaves the server: return an owned type{REMEDY}"));
    }
}

fn check_no_result(sig: &Signature, reason: &str, errors: &mut Errors) {
    if let (ReturnType::Type(_, ty), false) = (&sig.output, is_unit(&sig.output)) {
        errors.at(ty, format!("{reason}: return nothing"));
    }
}

/// Whether a type borrows somewhere inside, as far as its tokens tell.
fn borrows(ty: TokenStream) -> bool {
    let mut after_quote = false;
    ty.into_iter().any(|tree| {
        let lifetime = std::mem::replace(
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

/// A type as the user would write it.
fn source(ty: &Type) -> String {
    let tokens = ty.to_token_stream().to_string();
    [" <", "< ", " >", " ::", ":: "]
        .into_iter()
        .fold(tokens, |text, spaced| text.replace(spaced, spaced.trim()))
        .replace(" ,", ",")
}
