//! What is to be generated, in the user's own tokens.

use syn::{
    Attribute, FnArg, GenericArgument, Generics, Ident, ItemImpl, LitInt, Pat, PathArguments,
    ReceiverKind, ReturnType, Signature, Token, Type, TypeReference, Visibility, ext::IdentExt,
    parse::ParseStream,
};

use crate::{
    check,
    errors::Errors,
    options::{Journal, Options},
    parse::Function,
};

/// A block that is a server.
pub(crate) struct Server<'a> {
    pub(crate) self_ty: &'a Type,
    /// The last segment of `self_ty`.
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) cfgs: Vec<&'a Attribute>,
    pub(crate) options: Options,
    pub(crate) methods: Vec<Method<'a>>,
    pub(crate) init: Maker<'a>,
    pub(crate) save: Maker<'a>,
    pub(crate) restore: Maker<'a>,
    pub(crate) started: Option<Hook<'a>>,
    pub(crate) terminate: Option<Hook<'a>>,
    /// Of states, and of journaled messages.
    pub(crate) migrations: Vec<Migration<'a>>,
    pub(crate) message_migrations: Vec<Migration<'a>>,
}

/// A method with a message that keeps the rules.
pub(crate) struct Method<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) variant: String,
    pub(crate) attrs: &'a [Attribute],
    pub(crate) reads: bool,
    pub(crate) delivery: Delivery,
}

impl Method<'_> {
    pub(crate) fn is_async(&self) -> bool {
        self.call.sig.asyncness.is_some()
    }
}

/// Who sends a method's message.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Delivery {
    /// Clients, who wait for the result.
    Call,
    /// Clients, who don't wait.
    Cast,
    /// The server's own timers and streams.
    Info,
}

/// A function to call, with what it takes besides `self`, in its order.
pub(crate) struct Call<'a> {
    pub(crate) sig: &'a Signature,
    pub(crate) parameters: Vec<Parameter<'a>>,
}

pub(crate) enum Parameter<'a> {
    Field(&'a Ident, &'a Type),
    Context,
    Reason,
    /// A `Reply` of this type.
    Reply(&'a Type),
}

/// A function that makes what has a default: the state of a first life, what
/// is stored of a state, a state of what is stored.
pub(crate) enum Maker<'a> {
    Default,
    Function(Call<'a>),
    /// A function that breaks a rule. It has been reported; nothing that its
    /// absence would entail should be.
    Broken(Call<'a>),
}

pub(crate) struct Hook<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) attrs: &'a [Attribute],
}

/// `#[migrate(from = N)] fn(old: Old) -> Self`, and the same of a message
pub(crate) struct Migration<'a> {
    pub(crate) from: LitInt,
    pub(crate) sig: &'a Signature,
    pub(crate) old: &'a Type,
    pub(crate) attrs: &'a [Attribute],
}

/// What the helper attributes and the signature make of a function.
enum Role {
    Free,
    Method(Delivery),
    Init,
    Save,
    Restore,
    Started,
    Terminate,
    Migrate(Migrated, LitInt),
}

/// What a migration makes something new of.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Migrated {
    State,
    Message,
}

impl Migrated {
    /// The helper attribute that says so.
    pub(crate) fn helper(self) -> &'static str {
        match self {
            Self::State => "migrate",
            Self::Message => "migrate_message",
        }
    }
}

impl<'a> Server<'a> {
    /// None if the block can't be a server at all.
    pub(crate) fn read(
        item: &'a ItemImpl,
        functions: &'a [Function],
        options: Options,
        errors: &mut Errors,
    ) -> Option<Self> {
        if !errors.none_from(|errors| check::check_block(item, errors)) {
            return None;
        }
        let mut server = Self {
            self_ty: &item.self_ty,
            ident: last_segment(&item.self_ty)?,
            generics: &item.generics,
            cfgs: cfgs(&item.attrs).collect(),
            options,
            methods: Vec::new(),
            init: Maker::Default,
            save: Maker::Default,
            restore: Maker::Default,
            started: None,
            terminate: None,
            migrations: Vec::new(),
            message_migrations: Vec::new(),
        };
        for function in functions {
            server.add(function, errors);
        }
        check::check_pair(&server, errors);
        Some(server)
    }

    pub(crate) fn version(&self) -> u32 {
        self.options.version.unwrap_or(1)
    }

    fn add(&mut self, function: &'a Function, errors: &mut Errors) {
        match Role::of(function, errors) {
            Role::Free => {}
            Role::Method(delivery) => self.add_method(function, delivery, errors),
            Role::Init => {
                if self.init.is_set() {
                    errors.at(&function.sig.ident, "there is an `#[init]` function already");
                } else {
                    self.init = Maker::of(function, check::check_init, errors);
                }
            }
            Role::Save => {
                if self.save.is_set() {
                    errors.at(&function.sig.ident, "there is a `#[save]` function already");
                } else {
                    self.save = Maker::of(function, check::check_save, errors);
                }
            }
            Role::Restore => {
                if self.restore.is_set() {
                    errors.at(&function.sig.ident, "there is a `#[restore]` function already");
                } else {
                    self.restore = Maker::of(function, check::check_restore, errors);
                }
            }
            Role::Started => {
                if self.started.is_some() {
                    errors.at(&function.sig.ident, "there is a `#[started]` hook already");
                } else if errors.none_from(|errors| check::check_started(function, errors)) {
                    self.started = Some(Hook::of(function));
                }
            }
            Role::Terminate => {
                if self.terminate.is_some() {
                    errors.at(&function.sig.ident, "there is a `#[terminate]` hook already");
                } else if errors.none_from(|errors| check::check_terminate(function, errors)) {
                    self.terminate = Some(Hook::of(function));
                }
            }
            Role::Migrate(what, from) => self.add_migration(function, what, from, errors),
        }
    }

    fn add_method(&mut self, function: &'a Function, delivery: Delivery, errors: &mut Errors) {
        let replayed = matches!(self.options.journal, Journal::Messages { .. });
        if !errors.none_from(|errors| {
            check::check_method(function, delivery, errors);
            if replayed {
                check::check_replayed(&function.sig, errors);
            }
        }) {
            return;
        }
        let ident = &function.sig.ident;
        let variant = variant(&ident.unraw().to_string());
        let conditional = |attrs| cfgs(attrs).next().is_some();
        if let Some(other) = self.methods.iter().find(|other| other.variant == variant)
            && !(conditional(other.attrs) && conditional(&function.attrs))
        {
            // Of two equal names rustc says so itself.
            let name = &other.call.sig.ident;
            if name != ident {
                errors.at(
                    ident,
                    format!("`{name}` and `{ident}` both make the message `{variant}`: rename one"),
                );
            }
            return;
        }
        self.methods.push(Method {
            call: Call::of(&function.sig),
            variant,
            attrs: &function.attrs,
            reads: reads(&function.sig),
            delivery,
        });
    }

    fn add_migration(
        &mut self,
        function: &'a Function,
        what: Migrated,
        from: LitInt,
        errors: &mut Errors,
    ) {
        let current = self.version();
        match from.base10_parse::<u32>() {
            Err(error) => return errors.push(error),
            Ok(version) if version >= current => {
                return errors.at(
                    from,
                    format!(
                        "the block has version {current}, and a migration comes from an earlier \
                         one: write `#[persistent_server(version = …)]` or another `from`"
                    ),
                );
            }
            Ok(_) => {}
        }
        let migrations = match what {
            Migrated::State => &mut self.migrations,
            Migrated::Message => &mut self.message_migrations,
        };
        if migrations.iter().any(|other| other.from.base10_digits() == from.base10_digits()) {
            return errors.at(&from, format!("there is a migration from {from} already"));
        }
        if errors.none_from(|errors| check::check_migrate(function, what, self.self_ty, errors))
            && let [Parameter::Field(_, old)] = Call::of(&function.sig).parameters[..]
        {
            let (sig, attrs) = (&function.sig, &function.attrs[..]);
            migrations.push(Migration { from, sig, old, attrs });
        }
    }
}

impl Role {
    fn of(function: &Function, errors: &mut Errors) -> Self {
        let callable =
            matches!(function.vis, Visibility::Public(_)) && function.sig.receiver().is_some();
        let Some((helper, more)) = function.helpers.split_first() else {
            return if callable { Self::Method(Delivery::Call) } else { Self::Free };
        };
        let Some(name) = helper.path().get_ident().map(ToString::to_string) else {
            unreachable!("a helper attribute is one word");
        };
        for other in more {
            errors.at(other, format!("`#[{name}]` has settled what this function is: drop this"));
        }
        let migrated = [Migrated::State, Migrated::Message];
        if let Some(what) = migrated.into_iter().find(|what| what.helper() == name) {
            return match helper.parse_args_with(from) {
                Ok(from) => Self::Migrate(what, from),
                Err(_) => {
                    errors.at(helper, format!("write `#[{name}(from = 1)]`"));
                    Self::Free
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
            "skip" if callable => Self::Free,
            _ => {
                errors.at(
                    helper,
                    format!(
                        "`#[{name}]` goes on a callable method, a `pub fn` with `&self` or \
                         `&mut self`; this one is none"
                    ),
                );
                Self::Free
            }
        }
    }
}

/// Input: `from = 1`
fn from(input: ParseStream) -> syn::Result<LitInt> {
    let name: Ident = input.parse()?;
    if name != "from" {
        return Err(syn::Error::new(name.span(), "expected `from`"));
    }
    input.parse::<Token![=]>()?;
    input.parse()
}

impl<'a> Call<'a> {
    pub(crate) fn of(sig: &'a Signature) -> Self {
        Self { sig, parameters: sig.inputs.iter().filter_map(Parameter::of).collect() }
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a Ident, &'a Type)> {
        self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Field(ident, ty) => Some((*ident, *ty)),
            Parameter::Context | Parameter::Reason | Parameter::Reply(_) => None,
        })
    }

    /// What the caller is sent later, if the method takes a `Reply`.
    pub(crate) fn deferred(&self) -> Option<&'a Type> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Reply(ty) => Some(*ty),
            _ => None,
        })
    }
}

impl<'a> Maker<'a> {
    fn of(
        function: &'a Function,
        check: impl FnOnce(&Function, &mut Errors),
        errors: &mut Errors,
    ) -> Self {
        let call = Call::of(&function.sig);
        if errors.none_from(|errors| check(function, errors)) {
            Self::Function(call)
        } else {
            Self::Broken(call)
        }
    }

    fn is_set(&self) -> bool {
        self.call().is_some()
    }

    pub(crate) fn call(&self) -> Option<&Call<'a>> {
        match self {
            Self::Default => None,
            Self::Function(call) | Self::Broken(call) => Some(call),
        }
    }
}

impl<'a> Hook<'a> {
    fn of(function: &'a Function) -> Self {
        Self { call: Call::of(&function.sig), attrs: &function.attrs }
    }
}

impl<'a> Parameter<'a> {
    /// None for `self` and for what no rule lets pass.
    pub(crate) fn of(input: &'a FnArg) -> Option<Self> {
        let FnArg::Typed(parameter) = input else { return None };
        if let Some(ty) = replied(&parameter.ty) {
            return Some(Self::Reply(ty));
        }
        match (borrowed(&parameter.ty), &*parameter.pat) {
            (Some(reference), _) => {
                let name = last_segment(&reference.elem)?;
                match name.to_string().as_str() {
                    "Context" => Some(Self::Context),
                    "StopReason" => Some(Self::Reason),
                    _ => None,
                }
            }
            (None, Pat::Ident(pat)) => Some(Self::Field(&pat.ident, &parameter.ty)),
            (None, _) => None,
        }
    }
}

/// Whether a method takes `&self`.
pub(crate) fn reads(sig: &Signature) -> bool {
    match sig.receiver().map(|receiver| &receiver.kind) {
        Some(ReceiverKind::Reference(_, _, mutability)) => mutability.is_none(),
        Some(ReceiverKind::Typed(_, ty)) => borrowed(ty).is_some_and(|ty| ty.mutability.is_none()),
        _ => false,
    }
}

/// `add_points` and `addPoints` to `AddPoints`; leading underscores stay.
fn variant(method: &str) -> String {
    let rest = method.trim_start_matches('_');
    let mut variant = method[..method.len() - rest.len()].to_owned();
    for word in rest.split('_') {
        let mut chars = word.chars();
        variant.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        variant.push_str(chars.as_str());
    }
    if variant == "Self" {
        variant.push('_');
    }
    variant
}

/// A type without the invisible groups and parentheses around it.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        _ => ty,
    }
}

pub(crate) fn borrowed(ty: &Type) -> Option<&TypeReference> {
    match bare(ty) {
        Type::Reference(reference) => Some(reference),
        _ => None,
    }
}

/// The last segment of a type that is a plain path.
pub(crate) fn last_segment(ty: &Type) -> Option<&Ident> {
    match bare(ty) {
        Type::Path(ty) if ty.qself.is_none() => Some(&ty.path.segments.last()?.ident),
        _ => None,
    }
}

/// The `T` of a `Reply<T>`.
fn replied(ty: &Type) -> Option<&Type> {
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

pub(crate) fn cfgs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("cfg"))
}
