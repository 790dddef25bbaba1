//! The rules, one function a rule; each mistake stands under its own token.

use std::mem::{discriminant, replace};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    FnArg, GenericParam, ItemImpl, Pat, PatType, Receiver, ReceiverKind, ReturnType, Safety,
    Signature, Type,
};

use crate::{
    errors::Errors,
    model::{
        Call, Delivery, Migrated, Parameter, Server, bare, borrowed, cfgs, is_unit, last_segment,
        reads,
    },
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

pub(crate) fn check_method(function: &Function, delivery: Delivery, errors: &mut Errors) {
    let sig = &function.sig;
    let remedy = if delivery == Delivery::Info { "" } else { REMEDY };
    check_plain(sig, remedy, errors);
    check_receiver(sig, remedy, errors);
    check_parameters(sig, Takes::Message(delivery), errors);
    let no_result = match delivery {
        Delivery::Call if Call::of(sig).deferred().is_some() => "the reply is the result",
        Delivery::Call => return check_result(sig, errors),
        Delivery::Cast => "nobody waits for the result of a `#[cast]` method",
        Delivery::Info => "nobody waits for the result of an `#[info]` method",
    };
    check_no_result(sig, no_result, errors);
}

/// A method whose messages are journaled: it runs again when the state is
/// loaded.
pub(crate) fn check_replayed(sig: &Signature, errors: &mut Errors) {
    if let Some(token) = &sig.asyncness
        && !reads(sig)
    {
        errors.at(
            token,
            "with `journal = messages` a method that takes `&mut self` runs again when the state \
             is loaded, and can't wait then: drop `async`, wait in an `async` method with `&self` \
             or in a task, and send what comes of it as a message",
        );
    }
}

pub(crate) fn check_init(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_parameters(sig, Takes::Arguments, errors);
    if is_unit(&sig.output) {
        errors.at(&sig.ident, "`#[init]` makes the state: return `Self` or `Result<Self, E>`");
    }
    check_unconditional(function, "init", errors);
}

pub(crate) fn check_save(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, "", errors);
    check_sync(sig, "`#[save]` runs while a state is written", errors);
    match sig.receiver() {
        Some(receiver) if by_reference(receiver) && reads(sig) => {}
        Some(receiver) => errors.at(receiver, "`#[save]` only reads the state: take `&self`"),
        None => errors.at(&sig.ident, "`#[save]` reads the state: take `&self`"),
    }
    for input in sig.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_))) {
        errors.at(input, "`#[save]` takes nothing but `&self`");
    }
    match &sig.output {
        ReturnType::Type(_, ty) if !is_unit(&sig.output) => {
            if let Type::ImplTrait(_) = bare(ty) {
                errors.at(ty, "`#[restore]` must name what is stored: return a concrete type");
            }
        }
        _ => errors.at(&sig.ident, "`#[save]` returns what is stored of the state"),
    }
    check_unconditional(function, "save", errors);
}

pub(crate) fn check_restore(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_sync(sig, "`#[restore]` runs while a state is read", errors);
    if errors.none_from(|errors| check_parameters(sig, Takes::Stored, errors))
        && Call::of(sig).fields().count() != 1
    {
        errors.at(
            &sig.ident,
            "`#[restore]` takes what `#[save]` returns, and `&Context<Self>` if need be",
        );
    }
    if is_unit(&sig.output) {
        errors.at(&sig.ident, "`#[restore]` makes the state: return `Self` or `Result<Self, E>`");
    }
    check_unconditional(function, "restore", errors);
}

/// What is stored must be read again.
pub(crate) fn check_pair(server: &Server, errors: &mut Errors) {
    match (server.save.call(), server.restore.call()) {
        (Some(save), None) => errors.at(
            &save.sig.ident,
            "nothing reads what `#[save]` returns: add a `#[restore] fn(saved: …) -> Self`",
        ),
        (None, Some(restore)) => errors.at(
            &restore.sig.ident,
            "nothing writes what `#[restore]` takes: add a `#[save] fn(&self) -> …`",
        ),
        _ => {}
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

pub(crate) fn check_migrate(
    function: &Function,
    what: Migrated,
    self_ty: &Type,
    errors: &mut Errors,
) {
    let (sig, helper) = (&function.sig, what.helper());
    let old = match what {
        Migrated::State => "state",
        Migrated::Message => "message",
    };
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_sync(sig, &format!("`#[{helper}]` runs while a state is read"), errors);
    if errors.none_from(|errors| check_parameters(sig, Takes::Stored, errors))
        && (sig.inputs.len(), Call::of(sig).fields().count()) != (1, 1)
    {
        errors.at(&sig.ident, format!("`#[{helper}]` takes one parameter, the old {old}"));
    }
    if what == Migrated::Message {
        if is_unit(&sig.output) {
            errors.at(
                &sig.ident,
                "`#[migrate_message]` returns the message that takes the old one's place, or an \
                 `Option` of it",
            );
        }
        return;
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
    if !by_reference(receiver) {
        errors.at(
            receiver,
            format!("the server keeps its state: take `&self` or `&mut self`{remedy}"),
        );
    }
}

/// Whether it is `&self` or `&mut self` in one form or another.
fn by_reference(receiver: &Receiver) -> bool {
    match &receiver.kind {
        ReceiverKind::Reference(..) => true,
        ReceiverKind::Typed(_, ty) => borrowed(ty)
            .and_then(|reference| last_segment(&reference.elem))
            .is_some_and(|ident| ident == "Self"),
        _ => false,
    }
}

fn check_no_receiver(sig: &Signature, errors: &mut Errors) {
    if let Some(receiver) = sig.receiver() {
        errors.at(receiver, "there is no state yet: this hook makes it, without `self`");
    }
}

fn check_sync(sig: &Signature, reason: &str, errors: &mut Errors) {
    if let Some(token) = &sig.asyncness {
        errors.at(token, format!("{reason} and can't wait: drop `async`"));
    }
}

fn check_unconditional(function: &Function, hook: &str, errors: &mut Errors) {
    for cfg in cfgs(&function.attrs) {
        errors.at(cfg, format!("`#[{hook}]` can't hang on a `#[cfg]`: put it inside the function"));
    }
}

/// What a function may take besides the context.
#[derive(Clone, Copy)]
enum Takes {
    /// The fields of a message, and the caller if one waits.
    Message(Delivery),
    /// What a client begins a first life with.
    Arguments,
    /// Nothing.
    Context,
    /// The reason of a stop.
    Reason,
    /// What was stored.
    Stored,
}

fn check_parameters(sig: &Signature, takes: Takes, errors: &mut Errors) {
    let mut seen = Vec::new();
    for input in &sig.inputs {
        let FnArg::Typed(parameter) = input else { continue };
        for cfg in cfgs(&parameter.attrs) {
            errors.at(cfg, "a parameter can't hang on a `#[cfg]`: write the method twice");
        }
        let ty = &parameter.ty;
        let kind = Parameter::of(input);
        match (takes, &kind) {
            (_, Some(Parameter::Context)) => check_lent(ty, "&Context<Self>", errors),
            (Takes::Reason, Some(Parameter::Reason)) => check_lent(ty, "&StopReason", errors),
            (Takes::Context, _) => {
                errors.at(ty, "`#[started]` takes nothing but `&Context<Self>`");
                continue;
            }
            (Takes::Reason, _) => {
                errors
                    .at(ty, "`#[terminate]` takes nothing but `&StopReason` and `&Context<Self>`");
                continue;
            }
            (_, Some(Parameter::Reply(result))) => check_reply(ty, result, takes, errors),
            (Takes::Message(_) | Takes::Arguments | Takes::Stored, _) => {
                let stored = matches!(takes, Takes::Stored);
                check_name(&parameter.pat, stored, errors);
                check_owned(parameter, stored, errors);
                continue;
            }
        }
        let kind = kind.as_ref().map(discriminant);
        if seen.contains(&kind) {
            errors.at(ty, "this parameter is here twice");
        }
        seen.push(kind);
    }
}

/// The context and the reason are the runtime's.
fn check_lent(ty: &Type, form: &str, errors: &mut Errors) {
    if borrowed(ty).is_some_and(|reference| reference.mutability.is_some()) {
        errors.at(ty, format!("take `{form}`"));
    }
}

/// Input: `Reply<Result>`
fn check_reply(ty: &Type, result: &Type, takes: Takes, errors: &mut Errors) {
    let reason = match takes {
        Takes::Message(Delivery::Call) => return check_answer(result, errors),
        Takes::Message(Delivery::Cast) => {
            "nobody waits for a `#[cast]` method: drop the `Reply`, or the `#[cast]`"
        }
        Takes::Message(Delivery::Info) => "nobody waits for an `#[info]` method: drop the `Reply`",
        _ => "nobody waits for this hook: drop the `Reply`",
    };
    errors.at(ty, reason);
}

fn check_name(pat: &Pat, stored: bool, errors: &mut Errors) {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {}
        _ if stored => errors.at(pat, "give the parameter a name, and take it apart inside"),
        _ => errors.at(pat, "give the parameter a name: it becomes a field of the message"),
    }
}

fn check_owned(parameter: &PatType, stored: bool, errors: &mut Errors) {
    let (concrete, owns) = if stored {
        ("what is stored has a concrete type", "what is read back owns its parts")
    } else {
        ("a message has concrete fields", "a message owns its fields")
    };
    let ty = bare(&parameter.ty);
    if let Type::ImplTrait(_) = ty {
        errors.at(ty, format!("{concrete}: name the type"));
    } else if let Some(reference) = borrowed(ty) {
        let owned = match bare(&reference.elem) {
            Type::Slice(slice) => format!("`Vec<{}>`", source(&slice.elem)),
            elem if last_segment(elem).is_some_and(|ident| ident == "str") => "`String`".to_owned(),
            elem @ (Type::Path(_) | Type::Array(_) | Type::Tuple(_)) => {
                format!("`{}`", source(elem))
            }
            _ => "an owned type".to_owned(),
        };
        errors.at(ty, format!("{owns}: take {owned}"));
    } else if borrows(ty.to_token_stream()) {
        errors.at(ty, format!("{owns}: take a type without borrowed parts"));
    }
}

fn check_result(sig: &Signature, errors: &mut Errors) {
    if let ReturnType::Type(_, ty) = &sig.output {
        check_answer(ty, errors);
    }
}

/// What a caller is answered with.
fn check_answer(ty: &Type, errors: &mut Errors) {
    let ty = bare(ty);
    if let Type::ImplTrait(_) = ty {
        errors.at(ty, format!("a reply has a concrete type: name it{REMEDY}"));
    } else if borrows(ty.to_token_stream()) {
        errors.at(ty, format!("a reply leaves the server: make it an owned type{REMEDY}"));
    }
}

fn check_no_result(sig: &Signature, reason: &str, errors: &mut Errors) {
    if let (ReturnType::Type(_, ty), false) = (&sig.output, is_unit(&sig.output)) {
        errors.at(ty, format!("{reason}: return nothing"));
    }
}

/// Whether a type borrows somewhere inside, as far as its tokens tell.
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

/// A type as the user would write it.
fn source(ty: &Type) -> String {
    let tokens = ty.to_token_stream().to_string();
    [" <", "< ", " >", " ::", ":: "]
        .into_iter()
        .fold(tokens, |text, spaced| text.replace(spaced, spaced.trim()))
        .replace(" ,", ",")
}
