//! The generated items, one function an item.

use std::time::Duration;

use proc_macro2::{Group, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Expr, ExprLit, Ident, Lit, LitStr, Meta, ReturnType, Signature, Type, ext::IdentExt,
    spanned::Spanned,
};

use crate::{
    check::borrows,
    model::{
        Call, Delivery, Hook, Maker, Method, Migration, Parameter, Server, cfgs, is_unit, reads,
    },
    options::{Idle, Journal, Options, Persist},
};

/// What most items name.
struct Names<'a> {
    server: &'a Server<'a>,
    /// The runtime's path.
    root: TokenStream,
    message: Ident,
    client: Ident,
    /// `<T: Clone>`
    params: TokenStream,
    /// `<T>`
    arguments: TokenStream,
    /// `where T: Send`
    bounds: TokenStream,
    /// Locals of generated functions, out of reach of the user's names.
    context: Ident,
    reply: Ident,
    reason: Ident,
}

pub(crate) fn expand(server: &Server) -> TokenStream {
    let (params, arguments, bounds) = server.generics.split_for_impl();
    let local = |name| Ident::new(name, Span::mixed_site());
    let ident = generated(server.ident);
    let names = Names {
        server,
        root: match &server.options.root {
            Some(path) => path.to_token_stream(),
            None => quote!(::persistent_runtime),
        },
        message: format_ident!("{ident}Message"),
        client: format_ident!("{ident}Client"),
        params: names_self(params.to_token_stream(), server),
        arguments: arguments.to_token_stream(),
        bounds: names_self(bounds.to_token_stream(), server),
        context: local("context"),
        reply: local("reply"),
        reason: local("reason"),
    };
    let items = [
        message(&names),
        client(&names),
        client_methods(&names),
        client_clone(&names),
        client_debug(&names),
        client_impl(&names),
        server_impl(&names),
    ];
    let cfgs = &server.cfgs;
    items.into_iter().map(|item| quote!(#(#cfgs)* #item)).collect()
}

fn message(names: &Names) -> TokenStream {
    let Names { server, root, message, params, bounds, .. } = names;
    let serde = quote!(#root::__private::serde);
    let serde_path = path_string(&serde);
    // serde would put bounds on each parameter, where the block's own suffice.
    let serde_bound = has_params(server).then(|| quote!(bound(serialize = "", deserialize = "")));
    let doc = format!("The messages of a `{}`: one variant a method.", server.ident);
    let variants = server.methods.iter().map(|method| variant(method, names));
    let unused = has_types(server).then(|| {
        let types = server.generics.type_params().map(|parameter| &parameter.ident);
        quote! {
            #[doc(hidden)]
            #[serde(skip)]
            __Unused(#root::__private::Unused<(#(#types,)*)>),
        }
    });
    quote! {
        #[doc = #doc]
        #[derive(::core::fmt::Debug, #serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path, #serde_bound)]
        pub enum #message #params #bounds {
            #(#variants)*
            #unused
        }
    }
}

/// Input: `pub fn add(&mut self, points: u64) -> u64`
/// Output: `Add { points: u64 },`
fn variant(method: &Method, Names { server, root, .. }: &Names) -> TokenStream {
    let variant = variant_ident(method);
    let cfgs = cfgs(method.attrs);
    let private = path_string(&quote!(#root::__private));
    let docs: Vec<_> = method.attrs.iter().filter(|attr| is_doc(attr)).collect();
    let summary = docs.iter().skip_while(|attr| is_blank(attr)).take_while(|attr| !is_blank(attr));
    let fallback = docs.is_empty().then(|| doc_of(method, server));
    let fields = method.call.fields().map(|(ident, ty)| {
        let doc = format!("The argument `{}`.", ident.unraw());
        let span = ty.span();
        let (ident, ty) = (generated(ident), names_self(ty.to_token_stream(), server));
        let [serialize, deserialize] = ["serialize", "deserialize"]
            .map(|name| LitStr::new(&format!("{private}::{name}::<{ty}, _>"), span));
        quote! {
            #[doc = #doc]
            #[serde(serialize_with = #serialize, deserialize_with = #deserialize)]
            #ident: #ty
        }
    });
    let fields: Vec<_> = fields.collect();
    let body = (!fields.is_empty()).then(|| quote!({ #(#fields),* }));
    quote! {
        #(#cfgs)*
        #(#summary)*
        #fallback
        #variant #body,
    }
}

fn client(names: &Names) -> TokenStream {
    let Names { server, root, client, params, bounds, .. } = names;
    let self_ty = server.self_ty;
    let doc = format!("A client of one `{}`; cheap to clone.", server.ident);
    quote! {
        #[doc = #doc]
        pub struct #client #params #bounds {
            handle: #root::__private::Handle<#self_ty>,
        }
    }
}

fn client_methods(names: &Names) -> TokenStream {
    let Names { server, client, params, arguments, bounds, .. } = names;
    let methods = server.methods.iter().filter_map(|method| client_method(method, names));
    quote! {
        impl #params #client #arguments #bounds {
            #(#methods)*
        }
    }
}

/// Input: `pub fn add(&mut self, points: u64) -> u64`
/// Output: `pub async fn add(&self, points: u64) -> Result<u64, CallError>`
fn client_method(
    method: &Method,
    Names { server, root, message, .. }: &Names,
) -> Option<TokenStream> {
    let send = match method.delivery {
        Delivery::Call => quote!(call),
        Delivery::Cast => quote!(cast),
        Delivery::Info => return None,
    };
    let sig = method.call.sig;
    let (ident, variant) = (generated(&sig.ident), variant_ident(method));
    let carried = method.attrs.iter().filter(|attr| {
        is_doc(attr) || ["cfg", "deprecated"].iter().any(|name| attr.path().is_ident(name))
    });
    let fallback = (!method.attrs.iter().any(is_doc)).then(|| doc_of(method, server));
    let errors =
        format!("A [`CallError`]({}::CallError) if the message got no answer.", path_string(root));
    let fields: Vec<_> = method.call.fields().map(|(ident, _)| generated(ident)).collect();
    let types = method.call.fields().map(|(_, ty)| names_self(ty.to_token_stream(), server));
    let (output, is_unit) = match method.call.deferred() {
        Some(ty) => (ty.to_token_stream(), false),
        None => (output(sig), is_unit(&sig.output)),
    };
    let output = names_self(output, server);
    let bound = (!is_unit)
        .then(|| quote_spanned!(output.span()=> #root::__private::assert_payload::<#output>();));
    Some(quote! {
        #(#carried)*
        #fallback
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = #errors]
        pub async fn #ident(
            &self,
            #(#fields: #types),*
        ) -> ::core::result::Result<#output, #root::CallError> {
            #bound
            self.handle.#send(#message::#variant { #(#fields),* }).await
        }
    })
}

fn client_clone(Names { client, params, arguments, bounds, .. }: &Names) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl #params ::core::clone::Clone for #client #arguments #bounds {
            fn clone(&self) -> Self {
                Self { handle: ::core::clone::Clone::clone(&self.handle) }
            }
        }
    }
}

fn client_debug(Names { client, params, arguments, bounds, .. }: &Names) -> TokenStream {
    let name = client.to_string();
    let formatter = Ident::new("formatter", Span::mixed_site());
    quote! {
        #[automatically_derived]
        impl #params ::core::fmt::Debug for #client #arguments #bounds {
            fn fmt(&self, #formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                #formatter.debug_tuple(#name).field(&self.handle).finish()
            }
        }
    }
}

fn client_impl(names: &Names) -> TokenStream {
    let Names { server, root, client, params, arguments, bounds, .. } = names;
    let self_ty = server.self_ty;
    let handle = quote!(#root::__private::Handle<#self_ty>);
    quote! {
        #[automatically_derived]
        impl #params #root::Client<#self_ty> for #client #arguments #bounds {
            fn from_handle(handle: #handle) -> Self {
                Self { handle }
            }

            fn handle(&self) -> &#handle {
                &self.handle
            }
        }
    }
}

fn server_impl(names: &Names) -> TokenStream {
    let Names { server, root, message, client, params, arguments, bounds, .. } = names;
    let self_ty = server.self_ty;
    let name = match &server.options.name {
        Some(name) => name.to_token_stream(),
        None => server.ident.unraw().to_string().to_token_stream(),
    };
    let version = Literal::u32_unsuffixed(server.version());
    let journal = journal(&server.options, root);
    let options = options(&server.options, root);
    let (init_ty, init) = init(names);
    let started = started(names);
    let terminate = terminate(names);
    let method = method(names);
    let handle = handle(names);
    let handle_async = handle_async(names);
    let encode = encode(names);
    let decode = decode(names);
    let decode_message = decode_message(names);
    quote! {
        #[automatically_derived]
        impl #params #root::Server for #self_ty #bounds {
            type Message = #message #arguments;
            type Client = #client #arguments;
            type Init = #init_ty;

            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            #journal

            fn options() -> #root::Options {
                #options
            }

            #init
            #started
            #terminate
            #method
            #handle
            #handle_async

            #encode
            #decode
            #decode_message
        }
    }
}

/// `type Init` and `fn init`.
fn init(names: &Names) -> (TokenStream, TokenStream) {
    let Names { server, root, context, .. } = names;
    let self_ty = server.self_ty;
    let (call, state) = match &server.init {
        Maker::Default => {
            let default = quote_spanned!(self_ty.span()=> #root::__private::default_state);
            (None, quote!(::core::result::Result::Ok(#default::<#self_ty>())))
        }
        Maker::Function(call) => {
            let (value, output) = (invoke(call, names), output(call.sig));
            (
                Some(call),
                quote!(<#output as #root::__private::InitOutput<Self>>::into_state(#value)),
            )
        }
        Maker::Broken(call) => (Some(call), quote!(::core::unimplemented!())),
    };
    let fields: Vec<_> = call.iter().flat_map(|call| call.fields()).collect();
    let (ty, pattern) = match fields[..] {
        [(ident, ty)] => (ty.to_token_stream(), generated(ident).to_token_stream()),
        _ => {
            let types = fields.iter().map(|(_, ty)| ty);
            let idents = fields.iter().map(|(ident, _)| generated(ident));
            (quote!((#(#types),*)), quote!((#(#idents),*)))
        }
    };
    let init = quote! {
        async fn init(
            #pattern: Self::Init,
            #context: &#root::Context<Self>,
        ) -> ::core::result::Result<Self, #root::__private::String> {
            #state
        }
    };
    (ty, init)
}

fn started(names: &Names) -> Option<TokenStream> {
    let Names { server, root, context, .. } = names;
    let Hook { call, attrs } = server.started.as_ref()?;
    let (cfgs, run) = (cfgs(attrs).collect::<Vec<_>>(), invoke(call, names));
    let (hook, access) = (quote!(#root::__private::Hook), access(call));
    Some(quote! {
        #(#cfgs)*
        const STARTED: #hook = #hook::#access;

        #(#cfgs)*
        async fn started(&mut self, #context: &#root::Context<Self>) {
            #run
        }
    })
}

fn terminate(names: &Names) -> Option<TokenStream> {
    let Names { server, root, context, reason, .. } = names;
    let Hook { call, attrs } = server.terminate.as_ref()?;
    let (cfgs, run) = (cfgs(attrs).collect::<Vec<_>>(), invoke(call, names));
    let (hook, access) = (quote!(#root::__private::Hook), access(call));
    Some(quote! {
        #(#cfgs)*
        const TERMINATE: #hook = #hook::#access;

        #(#cfgs)*
        async fn terminate(
            &mut self,
            #reason: &#root::StopReason,
            #context: &#root::Context<Self>,
        ) {
            #run
        }
    })
}

/// The variant of `Hook` that a hook is.
fn access(hook: &Call) -> Ident {
    Ident::new(if reads(hook.sig) { "Reads" } else { "Writes" }, Span::call_site())
}

fn method(names: &Names) -> TokenStream {
    let Names { server, root, message, .. } = names;
    let method = quote!(#root::__private::Method);
    let arms = server.methods.iter().map(|each| {
        let (cfgs, variant, is_read) = (cfgs(each.attrs), variant_ident(each), each.reads);
        let name = each.call.sig.ident.unraw().to_string();
        let is_async = each.is_async();
        quote! {
            #(#cfgs)*
            #message::#variant { .. } => {
                #method { name: #name, is_read: #is_read, is_async: #is_async }
            }
        }
    });
    let unused = unused_arm(names);
    quote! {
        fn method(message: &Self::Message) -> #method {
            match *message {
                #(#arms)*
                #unused
            }
        }
    }
}

fn handle(names: &Names) -> TokenStream {
    let Names { server, root, context, reply, .. } = names;
    let arms = server.methods.iter().filter(|method| !method.is_async());
    let arms = arms.map(|method| arm(method, names));
    let others = has_async(server).then(|| quote!(_ => {}));
    let unused = unused_arm(names);
    quote! {
        fn handle(
            &mut self,
            message: Self::Message,
            #context: &#root::Context<Self>,
            #reply: #root::__private::ReplySlot<'_>,
        ) {
            match message {
                #(#arms)*
                #unused
                #others
            }
        }
    }
}

/// The provided `handle_async` calls `handle`, which is all that a block
/// without async methods needs.
fn handle_async(names: &Names) -> Option<TokenStream> {
    let Names { server, root, context, reply, .. } = names;
    if !has_async(server) {
        return None;
    }
    let arms = server.methods.iter().filter(|method| method.is_async());
    let arms = arms.map(|method| arm(method, names));
    Some(quote! {
        async fn handle_async(
            &mut self,
            message: Self::Message,
            #context: &#root::Context<Self>,
            #reply: #root::__private::ReplySlot<'_>,
        ) {
            match message {
                #(#arms)*
                message => #root::Server::handle(self, message, #context, #reply),
            }
        }
    })
}

/// Input: `pub fn add(&mut self, points: u64) -> u64`
/// Output: `PlayerMessage::Add { points } => reply.set(Self::add(self, points)),`
fn arm(method: &Method, names: &Names) -> TokenStream {
    let Names { message, reply, .. } = names;
    let (cfgs, variant) = (cfgs(method.attrs), variant_ident(method));
    let fields = method.call.fields().map(|(ident, _)| generated(ident));
    let result = invoke(&method.call, names);
    // Unlike other lints, `deprecated` also checks expanded code.
    let deprecated = method.attrs.iter().any(|attr| attr.path().is_ident("deprecated"));
    let allow = deprecated.then(|| quote!(#[allow(deprecated)]));
    let answer = match method.call.deferred() {
        Some(_) => result,
        None => quote!(#reply.set(#result)),
    };
    quote!(#(#cfgs)* #allow #message::#variant { #(#fields),* } => #answer,)
}

fn has_async(server: &Server) -> bool {
    server.methods.iter().any(Method::is_async)
}

fn unused_arm(Names { server, message, .. }: &Names) -> Option<TokenStream> {
    has_types(server).then(|| quote!(#message::__Unused(ref unused) => unused.absurd(),))
}

fn encode(names: &Names) -> TokenStream {
    let Names { server, root, .. } = names;
    let self_ty = server.self_ty;
    let encode = quote!(#root::__private::encode);
    let body = match (&server.save, &server.restore) {
        (Maker::Default, Maker::Default) => {
            quote_spanned!(self_ty.span()=> #encode::<#self_ty>(self, buffer))
        }
        (Maker::Function(save), Maker::Function(restore)) => {
            let (value, saved) = (invoke(save, names), output(save.sig));
            let written = saved.span().resolved_at(Span::call_site());
            // What is borrowed from the state can't be of the type that is
            // read; else they are the same, and rustc sees to it.
            let form = match stored(restore) {
                (_, ty) if !borrows(saved.clone()) => ty.to_token_stream(),
                _ => saved,
            };
            let encode = quote_spanned!(form.span()=> #encode::<#form>);
            let value = respanned(quote!(&#value), written);
            quote!(#encode(#value, buffer))
        }
        _ => quote!(::core::unimplemented!()),
    };
    quote! {
        fn encode(
            &self,
            buffer: &mut #root::__private::Vec<u8>,
        ) -> ::core::result::Result<(), #root::EncodeError> {
            #body
        }
    }
}

fn decode(names: &Names) -> TokenStream {
    let Names { server, root, context, .. } = names;
    let self_ty = server.self_ty;
    let current = Literal::u32_unsuffixed(server.version());
    let decode = quote!(#root::__private::decode);
    let own = match (&server.save, &server.restore) {
        (Maker::Default, Maker::Default) => {
            quote_spanned!(self_ty.span()=> #decode::<#self_ty>(bytes))
        }
        (Maker::Function(_), Maker::Function(restore)) => {
            let (ident, ty) = stored(restore);
            let (value, output, ident) =
                (invoke(restore, names), output(restore.sig), generated(ident));
            let decode = quote_spanned!(ty.span()=> #decode::<#ty>);
            let restored =
                quote_spanned!(output.span()=> #root::__private::restored::<Self, #output>);
            quote!(#decode(bytes).and_then(|#ident| #restored(#value)))
        }
        _ => quote!(::core::unimplemented!()),
    };
    let migrations = server.migrations.iter().map(|Migration { from, sig, old, attrs }| {
        let (cfgs, ident) = (cfgs(attrs), &sig.ident);
        let old = quote_spanned!(old.span()=> #decode::<#old>);
        quote!(#(#cfgs)* #from => #old(bytes).map(Self::#ident),)
    });
    quote! {
        fn decode(
            version: u32,
            bytes: &[u8],
            #context: &#root::Context<Self>,
        ) -> ::core::result::Result<Self, #root::DecodeError> {
            match version {
                #current => #own,
                #(#migrations)*
                stored => ::core::result::Result::Err(
                    #root::DecodeError::Version { stored, current: #current },
                ),
            }
        }
    }
}

/// Journaled messages of earlier versions; those of this one need nothing.
fn decode_message(names: &Names) -> Option<TokenStream> {
    let Names { server, root, .. } = names;
    if server.message_migrations.is_empty() {
        return None;
    }
    let current = Literal::u32_unsuffixed(server.version());
    let decode = quote!(#root::__private::decode_next);
    let migrations = server.message_migrations.iter().map(|migration| {
        let Migration { from, sig, old, attrs } = migration;
        let (cfgs, ident, output) = (cfgs(attrs), &sig.ident, output(sig));
        let decode = quote_spanned!(old.span()=> #decode::<#old>);
        let migrated =
            quote_spanned!(output.span()=> #root::__private::migrated::<Self::Message, #output>);
        quote!(#(#cfgs)* #from => #decode(bytes).map(|old| #migrated(Self::#ident(old))),)
    });
    Some(quote! {
        fn decode_message(
            version: u32,
            bytes: &mut &[u8],
        ) -> ::core::result::Result<::core::option::Option<Self::Message>, #root::DecodeError> {
            match version {
                #current => #decode::<Self::Message>(bytes).map(::core::option::Option::Some),
                #(#migrations)*
                stored => ::core::result::Result::Err(
                    #root::DecodeError::Version { stored, current: #current },
                ),
            }
        }
    })
}

/// Input: `async fn add(&mut self, points: u64, context: &Context<Self>)`
/// Output: `sendable(Self::add(self, points, context)).await`
fn invoke(call: &Call, Names { root, context, reason, .. }: &Names) -> TokenStream {
    let ident = generated(&call.sig.ident);
    let receiver = call.sig.receiver().map(|_| quote_spanned!(ident.span()=> self));
    let parameters = call.parameters.iter().map(|parameter| match parameter {
        Parameter::Field(ident, _) => generated(ident).to_token_stream(),
        Parameter::Context => context.to_token_stream(),
        Parameter::Reason => reason.to_token_stream(),
        Parameter::Reply(ty) => {
            let span = Span::mixed_site().located_at(ty.span());
            let (reply, context) = (Ident::new("reply", span), Ident::new("context", span));
            quote_spanned!(span=> #reply.defer::<Self, #ty>(#context))
        }
    });
    let arguments = receiver.into_iter().chain(parameters);
    let value = quote_spanned!(ident.span()=> Self::#ident(#(#arguments),*));
    if call.sig.asyncness.is_some() {
        let root = respanned(root.clone(), ident.span());
        quote_spanned!(ident.span()=> #root::__private::sendable(#value).await)
    } else {
        value
    }
}

/// What a function returns.
fn output(sig: &Signature) -> TokenStream {
    match &sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => ty.to_token_stream(),
    }
}

/// What `#[restore]` reads: its one parameter that is not the context.
fn stored<'a>(restore: &Call<'a>) -> (&'a Ident, &'a Type) {
    restore.fields().next().expect("a checked `#[restore]` takes what is stored")
}

fn journal(options: &Options, root: &TokenStream) -> Option<TokenStream> {
    let Journal::Messages { snapshot_every } = options.journal else { return None };
    let snapshot_every = Literal::u32_unsuffixed(snapshot_every);
    Some(quote! {
        const JOURNAL: #root::Journal =
            #root::Journal::Messages { snapshot_every: #snapshot_every };
    })
}

fn options(options: &Options, root: &TokenStream) -> TokenStream {
    let mut calls = Vec::new();
    if let Some(policy) = &options.restart {
        calls.push(quote!(restart(#root::Restart::#policy)));
    }
    if let Some((count, within)) = options.max_restarts {
        let (count, within) = (Literal::u32_unsuffixed(count), duration(within));
        calls.push(quote!(max_restarts(#count, #within)));
    }
    if let Some(backoff) = &options.backoff {
        let (min, max) = (duration(backoff.min), duration(backoff.max));
        let [factor, jitter] = [backoff.factor, backoff.jitter].map(Literal::f64_unsuffixed);
        let backoff =
            quote!(#root::Backoff::new(#min, #max).with_factor(#factor).with_jitter(#jitter));
        calls.push(quote!(backoff(#backoff)));
    }
    if let Some(idle) = &options.idle_timeout {
        let timeout = match idle {
            Idle::After(timeout) => duration(*timeout),
            Idle::Never => quote!(::core::option::Option::None),
        };
        calls.push(quote!(idle_timeout(#timeout)));
    }
    if let Some(size) = options.mailbox {
        let size = Literal::usize_unsuffixed(size);
        calls.push(quote!(mailbox(#size)));
    }
    if let Some(timeout) = options.call_timeout {
        let timeout = duration(timeout);
        calls.push(quote!(call_timeout(#timeout)));
    }
    if let Some(level) = &options.persist {
        let level = match level {
            Persist::EveryMessage => quote!(EveryMessage),
            Persist::Every(period) => {
                let period = duration(*period);
                quote!(Every(#period))
            }
            Persist::OnStop => quote!(OnStop),
        };
        calls.push(quote!(persist(#root::Persist::#level)));
    }
    quote!(#root::Options::new() #(.#calls)*)
}

fn duration(duration: Duration) -> TokenStream {
    let seconds = Literal::u64_unsuffixed(duration.as_secs());
    let nanos = Literal::u32_unsuffixed(duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}

/// The user's name for a generated thing: it stands where the user wrote it,
/// and lints know that the user didn't write the thing.
fn generated(ident: &Ident) -> Ident {
    let mut ident = ident.clone();
    ident.set_span(ident.span().resolved_at(Span::call_site()));
    ident
}

fn variant_ident(method: &Method) -> Ident {
    Ident::new(&method.variant, generated(&method.call.sig.ident).span())
}

/// `tokens` for use outside of the impl block, where `Self` is something else.
fn names_self(tokens: TokenStream, server: &Server) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut named = TokenStream::new();
    while let Some(tree) = tokens.next() {
        match tree {
            TokenTree::Ident(ident) if ident == "Self" => {
                let self_ty = respanned(server.self_ty.to_token_stream(), ident.span());
                let in_path =
                    matches!(tokens.peek(), Some(TokenTree::Punct(p)) if p.as_char() == ':');
                named.extend(if in_path { quote!(<#self_ty>) } else { self_ty });
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), names_self(group.stream(), server));
                inner.set_span(group.span());
                named.extend([TokenTree::Group(inner)]);
            }
            other => named.extend([other]),
        }
    }
    named
}

fn respanned(tokens: TokenStream, span: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|tree| match tree {
            TokenTree::Group(group) => {
                let stream = respanned(group.stream(), span);
                TokenTree::Group(Group::new(group.delimiter(), stream))
            }
            other => other,
        })
        .map(|mut tree| {
            tree.set_span(span);
            tree
        })
        .collect()
}

/// A path in the string form that serde's attributes and links take.
fn path_string(path: &TokenStream) -> String {
    path.to_string().replace(' ', "")
}

fn has_params(server: &Server) -> bool {
    !server.generics.params.is_empty()
}

fn has_types(server: &Server) -> bool {
    server.generics.type_params().next().is_some()
}

fn is_doc(attr: &Attribute) -> bool {
    attr.path().is_ident("doc")
}

fn is_blank(attr: &Attribute) -> bool {
    let Meta::NameValue(meta) = &attr.meta else { return false };
    matches!(
        &meta.value,
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if text.value().trim().is_empty()
    )
}

/// The documentation of a method that has none of its own.
fn doc_of(method: &Method, server: &Server) -> TokenStream {
    let doc = format!("Calls `{}::{}`.", server.ident, method.call.sig.ident.unraw());
    quote!(#[doc = #doc])
}
