//! The rules for a server, one function per rule. Each error underlines the
//! tokens that have to change.

use std::mem::{discriminant, take};

use quote::ToTokens;
use syn::{
    Attribute, FnArg, GenericParam, Ident, LitStr, Pat, PatType, ReturnType, Safety, Signature,
    Type, ext::IdentExt,
};

use crate::{
    errors::Errors,
    model::{Call, Delivery, Method, Migration, Override, Parameter, Server, Subject},
    options::Journal,
    syntax::{
        Stored, argument_of, as_reference, bare, borrows, by_reference, cfgs, is_serde, is_unit,
        last_segment, reads,
    },
};

/// The end of an error about a method that cannot have a message.
const REMEDY: &str = "; to exclude the method, add `#[skip]` or remove `pub`";

/// Reports every broken rule. Returns the server without the functions that
/// break one, or `None` if the block cannot be a server at all.
pub(crate) fn check<'a>(mut server: Server<'a>, errors: &mut Errors) -> Option<Server<'a>> {
    if !errors.passes(|errors| check_block(&server, errors)) {
        return None;
    }
    let journaled = matches!(server.options.journal, Journal::Messages { .. });
    server.methods.retain(|method| {
        errors.passes_under(cfgs(method.call.attrs), |errors| {
            check_method(method, errors);
            if journaled {
                check_replayed(method.call.sig, errors);
            }
        })
    });
    check_distinct_messages(&mut server.methods, errors);
    check_distinct_aliases(&server.methods, errors);
    server.init = checked(server.init, check_init, errors);
    server.save = checked(server.save, check_save, errors);
    server.restore = checked(server.restore, check_restore, errors);
    check_pair(&server, errors);
    server
        .started
        .retain(|hook| errors.passes_under(cfgs(hook.attrs), |errors| check_started(hook, errors)));
    server.terminate.retain(|hook| {
        errors.passes_under(cfgs(hook.attrs), |errors| check_terminate(hook, errors))
    });
    check_migrations(&mut server, errors);
    Some(server)
}

fn checked<'a>(
    function: Override<'a>,
    rule: impl FnOnce(&Call, &mut Errors),
    errors: &mut Errors,
) -> Override<'a> {
    match function {
        Override::Function(call) => {
            if errors.passes(|errors| rule(&call, errors)) {
                Override::Function(call)
            } else {
                Override::Invalid(call)
            }
        }
        other => other,
    }
}

fn check_block(server: &Server, errors: &mut Errors) {
    if let Some((path, _)) = &server.item.trait_ {
        errors
            .at(path, "`#[persistent_server]` goes on an inherent impl block, not on a trait impl");
    }
    let lifetimes: Vec<_> = server.generics.lifetimes().collect();
    let borrowed = lifetimes.iter().map(ToTokens::to_token_stream);
    let elided = lifetimes.is_empty() && borrows(server.self_ty.to_token_stream());
    for tokens in borrowed.chain(elided.then(|| server.self_ty.to_token_stream())) {
        errors.at(tokens, "a server owns its state: its type cannot have a lifetime parameter");
    }
    check_generics(server, errors);
}

/// Without bounds rustc would report each generated item that needs one.
fn check_generics(server: &Server, errors: &mut Errors) {
    let predicates = server.generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    let unbound = server.generics.type_params().find(|parameter| {
        let mut tokens = predicates.clone().flat_map(ToTokens::to_token_stream);
        parameter.bounds.is_empty() && !tokens.any(|tree| parameter.ident == tree.to_string())
    });
    if let Some(parameter) = unbound {
        let name = &parameter.ident;
        errors.at(
            parameter,
            format!(
                "the state and the messages of a server contain `{name}`: write \
                 `{name}: Payload + Debug`, or other bounds that make them serializable"
            ),
        );
    } else if server.options.name.is_none()
        && server
            .generics
            .params
            .iter()
            .any(|parameter| !matches!(parameter, GenericParam::Lifetime(_)))
    {
        errors.at(
            server.self_ty,
            "each instance of a generic type needs a stored name of its own: write \
             `#[persistent_server(name = T::NAME)]` with a constant of a trait, or `name = \"…\"` \
             if there is only one instance",
        );
    }
}

fn check_method(method: &Method, errors: &mut Errors) {
    let (sig, delivery) = (method.call.sig, method.delivery);
    let remedy = if delivery == Delivery::Info { "" } else { REMEDY };
    check_plain(sig, remedy, errors);
    check_receiver(sig, remedy, errors);
    check_parameters(sig, Accepts::Message(delivery), errors);
    if let Err(error) = Stored::of(method.call.stored, false) {
        errors.push(error);
    }
    let no_result = match delivery {
        Delivery::Call if method.call.deferred().is_some() => "the `Reply` carries the result",
        Delivery::Call => return check_result(sig, errors),
        Delivery::Cast => "no caller waits for the result of a `#[cast]` method",
        Delivery::Info => "no caller waits for the result of an `#[info]` method",
    };
    check_no_result(sig, no_result, errors);
}

fn check_replayed(sig: &Signature, errors: &mut Errors) {
    if let Some(token) = &sig.asyncness
        && !reads(sig)
    {
        errors.at(
            token,
            "with `journal = messages`, a method that takes `&mut self` runs again when the state \
             is loaded and cannot wait then: remove `async`, wait in an `async` method with \
             `&self` or in a task, and send the outcome as a message",
        );
    }
}

/// Removes methods whose message another method has already. rustc itself
/// reports two methods of one name.
fn check_distinct_messages(methods: &mut Vec<Method>, errors: &mut Errors) {
    for method in take(methods) {
        let other = methods.iter().find(|other| other.variant == method.variant);
        if let Some(other) = other
            && !(other.call.is_conditional() && method.call.is_conditional())
        {
            let (name, ident) = (&other.call.sig.ident, &method.call.sig.ident);
            if name != ident {
                errors.at(
                    ident,
                    format!(
                        "`{name}` and `{ident}` both generate the message `{}`: rename one",
                        method.variant
                    ),
                );
            }
            continue;
        }
        methods.push(method);
    }
}

/// Reports an earlier name that a second method or argument has, too: a stored message with that name
/// would be read as either.
fn check_distinct_aliases(methods: &[Method], errors: &mut Errors) {
    for (number, method) in methods.iter().enumerate() {
        for alias in aliases(method.call.stored, false) {
            let name = alias.value();
            let also = |other: &LitStr| other.value() == name;
            let other = methods.iter().enumerate().find(|(at, other)| {
                let is_read = other.variant == name
                    || (*at < number && aliases(other.call.stored, false).iter().any(also));
                let is_either = other.call.is_conditional() && method.call.is_conditional();
                *at != number && is_read && !is_either
            });
            if let Some((_, other)) = other {
                let text =
                    format!("`{}` already reads the message of this name", other.call.sig.ident);
                errors.at(&alias, text);
            }
        }
        check_distinct_arguments(&method.call, errors);
    }
}

fn check_distinct_arguments(call: &Call, errors: &mut Errors) {
    let mut names: Vec<_> = call.fields().map(|(ident, _)| ident.unraw().to_string()).collect();
    for parameter in &call.parameters {
        let Parameter::Field(ident, _, attrs) = parameter else { continue };
        for alias in aliases(attrs, true) {
            let name = alias.value();
            if names.contains(&name) && ident.unraw() != name {
                errors.at(&alias, "another argument already has this name");
            }
            names.push(name);
        }
    }
}

/// Returns the earlier names. Invalid attributes have been reported.
fn aliases(attrs: &[Attribute], of_argument: bool) -> Vec<LitStr> {
    Stored::of(attrs, of_argument).map_or(Vec::new(), |stored| stored.aliases)
}

fn check_init(call: &Call, errors: &mut Errors) {
    let sig = call.sig;
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_parameters(sig, Accepts::Arguments, errors);
    check_returns_state(sig, "init", errors);
    check_unconditional(call, "init", errors);
}

fn check_save(call: &Call, errors: &mut Errors) {
    let sig = call.sig;
    check_plain(sig, "", errors);
    check_sync(sig, "`#[save]` runs while a state is encoded", errors);
    match sig.receiver() {
        Some(receiver) if by_reference(receiver) && reads(sig) => {}
        Some(receiver) => errors.at(receiver, "`#[save]` only reads the state: take `&self`"),
        None => errors.at(&sig.ident, "`#[save]` reads the state: take `&self`"),
    }
    for input in sig.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_))) {
        errors.at(input, "`#[save]` takes only `&self`");
    }
    match &sig.output {
        ReturnType::Type(_, ty) if !is_unit(&sig.output) => {
            if let Type::ImplTrait(_) = bare(ty) {
                errors.at(ty, "`#[restore]` must name this type: return a concrete type");
            }
        }
        _ => errors.at(&sig.ident, "`#[save]` must return the stored form of the state"),
    }
    check_unconditional(call, "save", errors);
}

fn check_restore(call: &Call, errors: &mut Errors) {
    let sig = call.sig;
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_sync(sig, "`#[restore]` runs while a state is decoded", errors);
    if errors.passes(|errors| check_parameters(sig, Accepts::Stored, errors))
        && call.fields().count() != 1
    {
        errors.at(
            &sig.ident,
            "`#[restore]` takes what `#[save]` returns, and optionally `&Context<Self>`",
        );
    }
    check_returns_state(sig, "restore", errors);
    check_unconditional(call, "restore", errors);
}

fn check_pair(server: &Server, errors: &mut Errors) {
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

fn check_started(hook: &Call, errors: &mut Errors) {
    let sig = hook.sig;
    check_plain(sig, "", errors);
    check_receiver(sig, "", errors);
    check_parameters(sig, Accepts::Context, errors);
    check_no_result(sig, "nothing uses the result of `#[started]`", errors);
}

fn check_terminate(hook: &Call, errors: &mut Errors) {
    let sig = hook.sig;
    check_plain(sig, "", errors);
    check_receiver(sig, "", errors);
    check_parameters(sig, Accepts::Reason, errors);
    check_no_result(sig, "nothing uses the result of `#[terminate]`", errors);
}

/// Removes migrations that break a rule.
fn check_migrations(server: &mut Server, errors: &mut Errors) {
    let (current, oldest) = (server.version(), server.oldest());
    let versions = server.migrations_of(Subject::State).filter_map(Migration::version);
    let latest = versions.filter(|version| *version < current).max();
    check_no_gap(server, errors);
    for migration in take(&mut server.migrations) {
        let Migration { subject, from, .. } = &migration;
        match from.base10_parse::<u32>() {
            Err(error) => {
                errors.push(error);
                continue;
            }
            Ok(version) if version >= current => {
                errors.at(
                    from,
                    format!(
                        "a migration starts from an earlier version, and this block has version \
                         {current}: write `#[persistent_server(version = …)]` or change `from`"
                    ),
                );
                continue;
            }
            Ok(version) if version < oldest => {
                let error = match server.options.oldest {
                    Some(_) => format!("older than version {oldest}, the `oldest` that is read"),
                    None => "the first version is 1".to_owned(),
                };
                errors.at(from, error);
                continue;
            }
            Ok(_) => {}
        }
        let same = |other: &Migration| other.from.base10_digits() == from.base10_digits();
        let is_latest = migration.version() == latest;
        if server.migrations_of(*subject).any(same) {
            errors.at(from, format!("duplicate migration from version {from}"));
        } else if errors.passes(|errors| check_migration(&migration, is_latest, server, errors)) {
            server.migrations.push(migration);
        }
    }
}

/// Reports versions that nothing migrates: a state from `oldest` on, and, if any message is migrated,
/// a message from the first of them on.
fn check_no_gap(server: &Server, errors: &mut Errors) {
    let Some(literal) = &server.options.version_literal else { return };
    for (subject, first) in [
        (Subject::State, Some(server.oldest())),
        (
            Subject::Message,
            server.migrations_of(Subject::Message).filter_map(Migration::version).min(),
        ),
    ] {
        let Some(first) = first else { continue };
        let known = |version: &u32| {
            server.migrations_of(subject).any(|migration| migration.version() == Some(*version))
        };
        let Some(version) = (first..server.version()).find(|version| !known(version)) else {
            continue;
        };
        let helper = subject.helper();
        let instead = match subject {
            Subject::State => {
                format!(", or declare that none is stored any more: `oldest = {}`", version + 1)
            }
            Subject::Message => String::new(),
        };
        errors.at(
            literal,
            format!(
                "nothing migrates version {version}: add `#[{helper}(from = {version})]`{instead}"
            ),
        );
    }
}

fn check_migration(migration: &Migration, is_latest: bool, server: &Server, errors: &mut Errors) {
    let Migration { subject, call, .. } = migration;
    let (sig, helper) = (call.sig, subject.helper());
    let old = match subject {
        Subject::State => "state",
        Subject::Message => "message",
    };
    check_plain(sig, "", errors);
    check_no_receiver(sig, errors);
    check_sync(sig, &format!("`#[{helper}]` runs while a state is decoded"), errors);
    if errors.passes(|errors| check_parameters(sig, Accepts::Stored, errors))
        && (sig.inputs.len(), call.fields().count()) != (1, 1)
    {
        errors.at(&sig.ident, format!("`#[{helper}]` takes one parameter, the old {old}"));
    }
    match (subject, &sig.output) {
        (Subject::State, output) if is_unit(output) => {
            errors.at(
                &sig.ident,
                "`#[migrate]` returns `Self`, or what a `#[migrate]` from a later version takes",
            );
        }
        // rustc checks that any other form is that of the next version.
        (Subject::State, ReturnType::Type(_, ty)) if is_latest && !server.is_current(migration) => {
            errors.at(
                ty,
                "`#[migrate]` returns `Self`, or what a `#[migrate]` from a later version takes",
            );
        }
        (Subject::Message, output) if is_unit(output) => errors.at(
            &sig.ident,
            "`#[migrate_message]` returns the message that replaces the old one, or an `Option` \
             of it",
        ),
        _ => {}
    }
}

fn check_returns_state(sig: &Signature, helper: &str, errors: &mut Errors) {
    if is_unit(&sig.output) {
        errors.at(
            &sig.ident,
            format!("`#[{helper}]` creates the state: return `Self` or `Result<Self, E>`"),
        );
    }
}

fn check_plain(sig: &Signature, remedy: &str, errors: &mut Errors) {
    if let Safety::Unsafe(token) = &sig.safety {
        errors.at(token, format!("a server cannot call an `unsafe fn`{remedy}"));
    }
    if let Some(abi) = &sig.abi {
        errors.at(abi, format!("a server calls only functions with the Rust ABI{remedy}"));
    }
    if let Some(variadic) = &sig.variadic {
        errors.at(variadic, format!("a message has a fixed number of fields{remedy}"));
    }
    if !sig.generics.params.is_empty() {
        errors.at(
            &sig.generics,
            format!("a server cannot choose generic parameters: use concrete types{remedy}"),
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

fn check_no_receiver(sig: &Signature, errors: &mut Errors) {
    if let Some(receiver) = sig.receiver() {
        errors.at(receiver, "there is no state before this hook returns: remove `self`");
    }
}

fn check_sync(sig: &Signature, reason: &str, errors: &mut Errors) {
    if let Some(token) = &sig.asyncness {
        errors.at(token, format!("{reason} and cannot wait: remove `async`"));
    }
}

fn check_unconditional(call: &Call, helper: &str, errors: &mut Errors) {
    for cfg in cfgs(call.attrs) {
        errors.at(
            cfg,
            format!(
                "`#[{helper}]` cannot be conditional (`#[cfg]`): move the condition into the \
                 function"
            ),
        );
    }
}

/// The parameters that a function may have besides `&Context<Self>`.
#[derive(Clone, Copy)]
enum Accepts {
    /// The fields of a message, and a `Reply` if a caller waits.
    Message(Delivery),
    /// The init arguments.
    Arguments,
    /// None.
    Context,
    /// The reason of a stop.
    Reason,
    /// The stored form of a state or message.
    Stored,
}

fn check_parameters(sig: &Signature, accepts: Accepts, errors: &mut Errors) {
    let mut seen = Vec::new();
    for input in &sig.inputs {
        let FnArg::Typed(parameter) = input else { continue };
        for cfg in cfgs(&parameter.attrs) {
            errors.at(
                cfg,
                "a parameter cannot be conditional (`#[cfg]`): write one method per condition",
            );
        }
        if let (Accepts::Message(_), Err(error)) = (accepts, Stored::of(&parameter.attrs, true)) {
            errors.push(error);
        } else if !matches!(accepts, Accepts::Message(_)) {
            for attr in parameter.attrs.iter().filter(|attr| is_serde(attr)) {
                errors.at(attr, "only an argument of a message has a stored form: remove this");
            }
        }
        let ty = &parameter.ty;
        let kind = Parameter::of(input);
        match (accepts, &kind) {
            (_, Some(Parameter::Context)) => check_shared(ty, "&Context<Self>", errors),
            (Accepts::Reason, Some(Parameter::Reason)) => check_shared(ty, "&StopReason", errors),
            (Accepts::Context, _) => {
                errors.at(ty, "`#[started]` takes only `&Context<Self>`");
                continue;
            }
            (Accepts::Reason, _) => {
                errors.at(ty, "`#[terminate]` takes only `&StopReason` and `&Context<Self>`");
                continue;
            }
            (_, Some(Parameter::Reply(result))) => check_reply(ty, result, accepts, errors),
            (Accepts::Message(_) | Accepts::Arguments | Accepts::Stored, _) => {
                let stored = matches!(accepts, Accepts::Stored);
                check_name(&parameter.pat, stored, errors);
                check_owned(parameter, stored, errors);
                continue;
            }
        }
        let kind = kind.as_ref().map(discriminant);
        if seen.contains(&kind) {
            errors.at(ty, "duplicate parameter");
        }
        seen.push(kind);
    }
}

fn check_shared(ty: &Type, form: &str, errors: &mut Errors) {
    if as_reference(ty).is_some_and(|reference| reference.mutability.is_some()) {
        errors.at(ty, format!("take `{form}`"));
    }
}

/// Input: `Reply<Result>`
fn check_reply(ty: &Type, result: &Type, accepts: Accepts, errors: &mut Errors) {
    let reason = match accepts {
        Accepts::Message(Delivery::Call) => return check_owned_result(result, errors),
        Accepts::Message(Delivery::Cast) => {
            "no caller waits for a `#[cast]` method: remove the `Reply` or the `#[cast]`"
        }
        Accepts::Message(Delivery::Info) => {
            "no caller waits for an `#[info]` method: remove the `Reply`"
        }
        _ => "no caller waits for this hook: remove the `Reply`",
    };
    errors.at(ty, reason);
}

fn check_name(pat: &Pat, stored: bool, errors: &mut Errors) {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {}
        _ if stored => errors.at(pat, "name the parameter, and destructure it in the body"),
        _ => errors.at(pat, "name the parameter: it becomes a field of the message"),
    }
}

fn check_owned(parameter: &PatType, stored: bool, errors: &mut Errors) {
    let (concrete, owned) = if stored {
        ("a stored form has a concrete type", "a stored form owns its parts")
    } else {
        ("a message has concrete fields", "a message owns its fields")
    };
    let ty = bare(&parameter.ty);
    if let Type::ImplTrait(_) = ty {
        errors.at(ty, format!("{concrete}: name the type"));
    } else if let Some(reference) = as_reference(ty) {
        let instead = match bare(&reference.elem) {
            Type::Slice(slice) => format!("`Vec<{}>`", source(&slice.elem)),
            elem if last_segment(elem).is_some_and(|ident| ident == "str") => "`String`".to_owned(),
            elem @ (Type::Path(_) | Type::Array(_) | Type::Tuple(_)) => {
                format!("`{}`", source(elem))
            }
            _ => "an owned type".to_owned(),
        };
        let hint = if looks_like_context(parameter) {
            ", or `&Context<Self>` if this is the context, which is recognized by its name"
        } else {
            ""
        };
        errors.at(ty, format!("{owned}: take {instead}{hint}"));
    } else if is_context(ty) {
        errors.at(ty, "a handler borrows its context: take `&Context<Self>`");
    } else if borrows(ty.to_token_stream()) {
        errors.at(ty, format!("{owned}: take a type without borrowed parts"));
    }
}

/// Returns true for a parameter that is meant as the context, e.g. of a type `Ctx`.
fn looks_like_context(parameter: &PatType) -> bool {
    let reference = as_reference(&parameter.ty);
    let names = [
        parameter.pat.to_token_stream().to_string(),
        reference
            .and_then(|reference| last_segment(&reference.elem))
            .map_or(String::new(), Ident::to_string),
    ];
    names.iter().any(|name| {
        let name = name.to_lowercase();
        name.contains("context") || name.contains("ctx")
    })
}

/// Returns true for `Context<Self>` by value. A type of the user's own can have this name too, but
/// hardly this argument.
fn is_context(ty: &Type) -> bool {
    argument_of(ty, "Context").and_then(last_segment).is_some_and(|ident| ident == "Self")
}

fn check_result(sig: &Signature, errors: &mut Errors) {
    if let ReturnType::Type(_, ty) = &sig.output {
        check_owned_result(ty, errors);
    }
}

fn check_owned_result(ty: &Type, errors: &mut Errors) {
    let ty = bare(ty);
    if let Type::ImplTrait(_) = ty {
        errors.at(ty, format!("a result has a concrete type: name it{REMEDY}"));
    } else if borrows(ty.to_token_stream()) {
        errors.at(ty, format!("a result leaves the server: make it an owned type{REMEDY}"));
    }
}

fn check_no_result(sig: &Signature, reason: &str, errors: &mut Errors) {
    if let (ReturnType::Type(_, ty), false) = (&sig.output, is_unit(&sig.output)) {
        errors.at(ty, format!("{reason}: return nothing"));
    }
}

/// Returns a type as the user would write it.
fn source(ty: &Type) -> String {
    let tokens = ty.to_token_stream().to_string();
    [" <", "< ", " >", " ::", ":: "]
        .into_iter()
        .fold(tokens, |text, spaced| text.replace(spaced, spaced.trim()))
        .replace(" ,", ",")
}
