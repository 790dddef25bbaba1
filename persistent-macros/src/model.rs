//! The model of a server: the role of each function, in the user's own tokens.
//!
//! Reading reports helper attributes that are misused or contradict each other.
//! The rules for the functions themselves are in `check`.

use quote::ToTokens;
use syn::{
    Attribute, FnArg, Generics, Ident, ItemImpl, LitInt, Pat, ReturnType, Signature, Token, Type,
    Visibility, ext::IdentExt, parse::ParseStream,
};

use crate::{
    errors::Errors,
    options::Options,
    parse::{Block, Function},
    syntax::{
        as_reference, bare, cfgs, effective, last_segment, option_content, reads, reply_result,
    },
};

/// An annotated block as a server.
pub(crate) struct Server<'a> {
    pub(crate) item: &'a ItemImpl,
    pub(crate) self_ty: &'a Type,
    /// The last segment of `self_ty`.
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) options: Options,
    pub(crate) methods: Vec<Method<'a>>,
    pub(crate) init: Override<'a>,
    pub(crate) save: Override<'a>,
    pub(crate) restore: Override<'a>,
    /// Several only if all of them are conditional.
    pub(crate) started: Vec<Call<'a>>,
    pub(crate) terminate: Vec<Call<'a>>,
    pub(crate) migrations: Vec<Migration<'a>>,
}

/// A method with a message.
pub(crate) struct Method<'a> {
    pub(crate) call: Call<'a>,
    /// The name of its variant in the message enum.
    pub(crate) variant: String,
    pub(crate) delivery: Delivery,
}

/// The sender of a message, and whether it waits.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Delivery {
    /// A client, which waits for the result.
    Call,
    /// A client, which does not wait.
    Cast,
    /// One of the server's own sources.
    Info,
}

/// A function of the block that generated code calls.
pub(crate) struct Call<'a> {
    pub(crate) sig: &'a Signature,
    pub(crate) vis: &'a Visibility,
    pub(crate) attrs: &'a [Attribute],
    /// The serde attributes of its message.
    pub(crate) stored: &'a [Attribute],
    /// The parameters after `self`, in source order. A parameter of a form
    /// that `check` refuses is not included.
    pub(crate) parameters: Vec<Parameter<'a>>,
}

pub(crate) enum Parameter<'a> {
    /// A field of the message, or an argument of a hook.
    Field(&'a Ident, &'a Type, &'a [Attribute]),
    Context,
    Reason,
    /// A `Reply` of this type.
    Reply(&'a Type),
}

/// A function that replaces a default of the runtime.
pub(crate) enum Override<'a> {
    Default,
    Function(Call<'a>),
    /// A function that breaks a rule. The error has been reported. Neither the
    /// default nor the function is used, as both could cause further errors.
    Invalid(Call<'a>),
}

/// `#[migrate(from = N)] fn(old: Old) -> Self`, or `#[migrate_message]`. Instead of the current form
/// it can return the one that the migration from the next version takes.
pub(crate) struct Migration<'a> {
    pub(crate) subject: Subject,
    pub(crate) from: LitInt,
    pub(crate) call: Call<'a>,
}

/// The kind of value that a migration converts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Subject {
    State,
    Message,
}

/// The role of a function, given by its helper attributes and signature.
enum Role {
    /// Not called by generated code.
    Plain,
    Method(Delivery),
    Init,
    Save,
    Restore,
    Started,
    Terminate,
    Migrate(Subject, LitInt),
}

impl Subject {
    pub(crate) fn helper(self) -> &'static str {
        match self {
            Self::State => "migrate",
            Self::Message => "migrate_message",
        }
    }
}

impl<'a> Server<'a> {
    /// Returns `None` if the type has no name to derive others from.
    pub(crate) fn read(block: &'a Block, options: Options, errors: &mut Errors) -> Option<Self> {
        let item = &block.item;
        let Some(ident) = last_segment(&item.self_ty) else {
            errors.at(&item.self_ty, "a server is a named type, such as `Player` or `Stack<T>`");
            return None;
        };
        let mut server = Self {
            item,
            self_ty: &item.self_ty,
            ident,
            generics: &item.generics,
            options,
            methods: Vec::new(),
            init: Override::Default,
            save: Override::Default,
            restore: Override::Default,
            started: Vec::new(),
            terminate: Vec::new(),
            migrations: Vec::new(),
        };
        for function in &block.functions {
            server.add(function, errors);
        }
        Some(server)
    }

    pub(crate) fn version(&self) -> u32 {
        self.options.version.unwrap_or(1)
    }

    pub(crate) fn oldest(&self) -> u32 {
        self.options.oldest.unwrap_or(1)
    }

    /// Returns the migration that takes what `migration` returns, or `None` if that is of the current
    /// version.
    pub(crate) fn next(&self, migration: &Migration) -> Option<&Migration<'a>> {
        let later = self
            .migrations_of(migration.subject)
            .filter(|other| other.version() > migration.version());
        later.min_by_key(|other| other.version()).filter(|_| !self.is_current(migration))
    }

    /// Returns true if a migration returns the state or message of the current version.
    pub(crate) fn is_current(&self, migration: &Migration) -> bool {
        let ReturnType::Type(_, ty) = &migration.call.sig.output else { return false };
        match migration.subject {
            Subject::State => {
                last_segment(ty).is_some_and(|ident| ident == "Self")
                    || ty.to_token_stream().to_string()
                        == self.self_ty.to_token_stream().to_string()
            }
            Subject::Message => {
                let Type::Path(ty) = bare(option_content(ty).unwrap_or(ty)) else { return false };
                let message = format!("{}Message", self.ident);
                let last = ty.path.segments.last();
                last.is_some_and(|last| last.ident == "Message" || last.ident == message)
            }
        }
    }

    pub(crate) fn migrations_of(&self, subject: Subject) -> impl Iterator<Item = &Migration<'a>> {
        self.migrations.iter().filter(move |migration| migration.subject == subject)
    }

    fn add(&mut self, function: &'a Function, errors: &mut Errors) {
        let call = Call::of(function);
        let ident = &function.sig.ident;
        let role = Role::of(function, errors);
        if !matches!(role, Role::Method(_)) {
            for attr in &function.stored {
                errors.at(attr, "only a method with a message has a stored form: remove this");
            }
        }
        match role {
            Role::Plain => {}
            Role::Method(delivery) => {
                let variant = variant(&ident.unraw().to_string());
                self.methods.push(Method { call, variant, delivery });
            }
            Role::Init => self.init.set(call, "init", errors),
            Role::Save => self.save.set(call, "save", errors),
            Role::Restore => self.restore.set(call, "restore", errors),
            Role::Started => add_hook(&mut self.started, call, "started", errors),
            Role::Terminate => add_hook(&mut self.terminate, call, "terminate", errors),
            Role::Migrate(subject, from) => {
                self.migrations.push(Migration { subject, from, call });
            }
        }
    }
}

fn add_hook<'a>(hooks: &mut Vec<Call<'a>>, call: Call<'a>, name: &str, errors: &mut Errors) {
    if hooks.iter().any(|other| !(other.is_conditional() && call.is_conditional())) {
        errors.at(&call.sig.ident, format!("duplicate `#[{name}]` hook"));
    } else {
        hooks.push(call);
    }
}

impl Role {
    fn of(function: &Function, errors: &mut Errors) -> Self {
        let callable = function.is_callable();
        let helpers: Vec<_> = function.helpers.iter().map(effective).collect();
        let Some((helper, more)) = helpers.split_first() else {
            return if callable { Self::Method(Delivery::Call) } else { Self::Plain };
        };
        let Some(name) = helper.path().get_ident().map(ToString::to_string) else {
            unreachable!("a helper attribute is one identifier");
        };
        for other in more {
            errors.at(other, format!("conflicts with `#[{name}]`: remove one of them"));
        }
        let subjects = [Subject::State, Subject::Message];
        if let Some(subject) = subjects.into_iter().find(|subject| subject.helper() == name) {
            return match helper.parse_args_with(parse_from) {
                Ok(from) => Self::Migrate(subject, from),
                Err(_) => {
                    errors.at(helper, format!("write `#[{name}(from = 1)]`"));
                    Self::Plain
                }
            };
        }
        if helper.meta.require_path_only().is_err() {
            errors.at(helper, format!("`#[{name}]` takes no arguments"));
        }
        match name.as_str() {
            "init" => Self::Init,
            "started" => Self::Started,
            "terminate" => Self::Terminate,
            "save" => Self::Save,
            "restore" => Self::Restore,
            "info" => Self::Method(Delivery::Info),
            "cast" if callable => Self::Method(Delivery::Cast),
            "skip" if callable => Self::Plain,
            _ => {
                errors.at(
                    helper,
                    format!(
                        "`#[{name}]` goes on a callable method: a `pub fn` with `&self` or \
                         `&mut self`"
                    ),
                );
                Self::Plain
            }
        }
    }
}

/// Input: `from = 1`
fn parse_from(input: ParseStream) -> syn::Result<LitInt> {
    let name: Ident = input.parse()?;
    if name != "from" {
        return Err(syn::Error::new(name.span(), "expected `from`"));
    }
    input.parse::<Token![=]>()?;
    input.parse()
}

impl Migration<'_> {
    /// Returns the version that it starts from, or `None` if that is no number.
    pub(crate) fn version(&self) -> Option<u32> {
        self.from.base10_parse().ok()
    }
}

impl Method<'_> {
    pub(crate) fn is_async(&self) -> bool {
        self.call.sig.asyncness.is_some()
    }
}

impl<'a> Call<'a> {
    fn of(function: &'a Function) -> Self {
        let Function { sig, vis, attrs, stored, .. } = function;
        let parameters = sig.inputs.iter().filter_map(Parameter::of).collect();
        Self { sig, vis, attrs, stored, parameters }
    }

    pub(crate) fn is_conditional(&self) -> bool {
        cfgs(self.attrs).next().is_some()
    }

    pub(crate) fn reads(&self) -> bool {
        reads(self.sig)
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a Ident, &'a Type)> {
        self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Field(ident, ty, _) => Some((*ident, *ty)),
            Parameter::Context | Parameter::Reason | Parameter::Reply(_) => None,
        })
    }

    /// Returns the field of a `#[restore]` function or a migration.
    pub(crate) fn stored(&self) -> (&'a Ident, &'a Type) {
        self.fields().next().expect("`check` requires the stored form as a parameter")
    }

    /// Returns the type of the result if the method takes a `Reply`.
    pub(crate) fn deferred(&self) -> Option<&'a Type> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Reply(ty) => Some(*ty),
            _ => None,
        })
    }
}

impl<'a> Override<'a> {
    fn set(&mut self, call: Call<'a>, name: &str, errors: &mut Errors) {
        match self {
            Self::Default => *self = Self::Function(call),
            _ => errors.at(&call.sig.ident, format!("duplicate `#[{name}]` function")),
        }
    }

    pub(crate) fn call(&self) -> Option<&Call<'a>> {
        match self {
            Self::Default => None,
            Self::Function(call) | Self::Invalid(call) => Some(call),
        }
    }
}

impl<'a> Parameter<'a> {
    /// Returns `None` for `self` and for a form that `check` refuses.
    pub(crate) fn of(input: &'a FnArg) -> Option<Self> {
        let FnArg::Typed(parameter) = input else { return None };
        if let Some(ty) = reply_result(&parameter.ty) {
            return Some(Self::Reply(ty));
        }
        match (as_reference(&parameter.ty), &*parameter.pat) {
            (Some(reference), _) => {
                let name = last_segment(&reference.elem)?;
                match name.to_string().as_str() {
                    "Context" => Some(Self::Context),
                    "StopReason" => Some(Self::Reason),
                    _ => None,
                }
            }
            (None, Pat::Ident(pat)) => {
                Some(Self::Field(&pat.ident, &parameter.ty, &parameter.attrs))
            }
            (None, _) => None,
        }
    }
}

/// Converts `add_points` and `addPoints` to `AddPoints`. Keeps leading
/// underscores.
fn variant(method: &str) -> String {
    let words = method.trim_start_matches('_');
    let mut variant = method[..method.len() - words.len()].to_owned();
    for word in words.split('_') {
        let mut chars = word.chars();
        variant.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        variant.push_str(chars.as_str());
    }
    if variant == "Self" {
        variant.push('_');
    }
    variant
}
