//! The `Server` impl: constants, options, and how a message reaches its method.

use std::time::Duration;

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;

use super::{
    Names, attributes, invoke, state,
    tokens::{at_call_site, user_span},
    variant,
};
use crate::{
    model::{Call, Delivery, Method},
    options::{Journal, Options, Persist, TimeOrNever},
};

pub(super) fn server_impl(names: &Names) -> TokenStream {
    let Names { server, runtime, vis, message, client, params, arguments, bounds, .. } = names;
    let self_ty = server.self_ty;
    let name = match &server.options.name {
        Some(name) => name.to_token_stream(),
        None => server.ident.unraw().to_string().to_token_stream(),
    };
    let key = match &server.options.key {
        Some(key) => key.to_token_stream(),
        None => quote!(::core::primitive::str),
    };
    // rustc reports here that a type is less visible than the server.
    let types = quote_spanned! {user_span(vis)=>
        type Message = #message #arguments;
        type Client = #client #arguments;
    };

    let version = Literal::u32_unsuffixed(server.version());
    let journal = journal(&server.options, runtime);
    let options = options(&server.options, runtime);
    let init = state::init(names);
    let started = started(names);
    let terminate = terminate(names);
    let method = method(names);
    let handle = handle(names);
    let handle_async = handle_async(names);
    let encode = state::encode(names);
    let check = state::check(names);
    let decode = state::decode(names);
    let decode_message = state::decode_message(names);
    quote! {
        #[automatically_derived]
        impl #params #runtime::Server for #self_ty #bounds {
            #types
            type Key = #key;

            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            #journal

            fn options() -> #runtime::Options {
                #options
            }

            #init
            #started
            #terminate
            #method
            #handle
            #handle_async

            #encode
            #check
            #decode
            #decode_message
        }
    }
}

fn started(names: &Names) -> TokenStream {
    let Names { server, runtime, context, .. } = names;
    let hooks = server.started.iter().map(|hook| {
        let (attributes, body) = (attributes(hook.attrs), invoke(hook, names));
        let (ty, kind) = hook_kind(hook, runtime);
        quote! {
            #attributes
            const STARTED: #ty = #kind;

            #attributes
            async fn started(&mut self, #context: &#runtime::Context<Self>) {
                #body
            }
        }
    });
    hooks.collect()
}

fn terminate(names: &Names) -> TokenStream {
    let Names { server, runtime, context, reason, .. } = names;
    let hooks = server.terminate.iter().map(|hook| {
        let (attributes, body) = (attributes(hook.attrs), invoke(hook, names));
        let (ty, kind) = hook_kind(hook, runtime);
        quote! {
            #attributes
            const TERMINATE: #ty = #kind;

            #attributes
            async fn terminate(
                &mut self,
                #reason: &#runtime::StopReason,
                #context: &#runtime::Context<Self>,
            ) {
                #body
            }
        }
    });
    hooks.collect()
}

/// Returns the type and the value of a hook's constant.
fn hook_kind(hook: &Call, runtime: &TokenStream) -> (TokenStream, TokenStream) {
    let ty = quote!(#runtime::__private::Hook);
    let variant = if hook.reads() { format_ident!("Reads") } else { format_ident!("Writes") };
    let kind = quote!(#ty::#variant);
    (ty, kind)
}

fn method(names: &Names) -> TokenStream {
    let Names { server, runtime, message, .. } = names;
    let method = quote!(#runtime::__private::Method);
    let arms = server.methods.iter().map(|each| {
        let (attributes, variant) = (attributes(each.call.attrs), variant(each));
        let name = each.call.sig.ident.unraw().to_string();
        let (is_read, is_async) = (each.call.reads(), each.is_async());
        let is_info = each.delivery == Delivery::Info;
        quote! {
            #attributes
            #message::#variant { .. } => {
                &#method { name: #name, is_read: #is_read, is_async: #is_async, is_info: #is_info }
            }
        }
    });
    let unused = names.unused_arm();
    quote! {
        fn method(message: &Self::Message) -> &'static #method {
            match *message {
                #(#arms)*
                #unused
            }
        }
    }
}

fn handle(names: &Names) -> TokenStream {
    let Names { server, runtime, context, reply, .. } = names;
    let arms = server.methods.iter().filter(|method| !method.is_async());
    let arms = arms.map(|method| arm(method, names));
    // The runtime passes messages of async methods to `handle_async`.
    let others = server.methods.iter().any(Method::is_async).then(|| quote!(_ => {}));
    let unused = names.unused_arm();
    quote! {
        fn handle(
            &mut self,
            message: Self::Message,
            #context: &#runtime::Context<Self>,
            #reply: #runtime::__private::ReplySlot<'_>,
        ) {
            match message {
                #(#arms)*
                #unused
                #others
            }
        }
    }
}

/// Returns `None` for a block without async methods. The provided
/// `handle_async` calls `handle`.
fn handle_async(names: &Names) -> Option<TokenStream> {
    let Names { server, runtime, context, reply, .. } = names;
    let arms: Vec<_> = server
        .methods
        .iter()
        .filter(|method| method.is_async())
        .map(|method| arm(method, names))
        .collect();
    (!arms.is_empty()).then(|| {
        quote! {
            async fn handle_async(
                &mut self,
                message: Self::Message,
                #context: &#runtime::Context<Self>,
                #reply: #runtime::__private::ReplySlot<'_>,
            ) {
                match message {
                    #(#arms)*
                    message => #runtime::Server::handle(self, message, #context, #reply),
                }
            }
        }
    })
}

/// Input: `pub fn add(&mut self, points: u64) -> u64`
/// Output: `PlayerMessage::Add { points } => reply.set(Self::add(self, points)),`
fn arm(method: &Method, names: &Names) -> TokenStream {
    let Names { message, reply, .. } = names;
    let (attributes, variant) = (attributes(method.call.attrs), variant(method));
    let fields = method.call.fields().map(|(ident, _)| at_call_site(ident));
    let result = invoke(&method.call, names);
    let body = match method.call.deferred() {
        Some(_) => result,
        None => quote!(#reply.set(#result)),
    };
    quote!(#attributes #message::#variant { #(#fields),* } => #body,)
}

fn journal(options: &Options, runtime: &TokenStream) -> Option<TokenStream> {
    let Journal::Messages { snapshot_every } = options.journal else { return None };
    let snapshot_every = Literal::u32_unsuffixed(snapshot_every);
    Some(quote! {
        const JOURNAL: #runtime::Journal =
            #runtime::Journal::Messages { snapshot_every: #snapshot_every };
    })
}

fn options(options: &Options, runtime: &TokenStream) -> TokenStream {
    let mut calls = Vec::new();
    if let Some(policy) = &options.restart {
        calls.push(quote!(restart(#runtime::Restart::#policy)));
    }
    if let Some((count, within)) = options.max_restarts {
        let (count, within) = (Literal::u32_unsuffixed(count), duration(within));
        calls.push(quote!(max_restarts(#count, #within)));
    }
    if let Some(wait) = &options.retry_after {
        let wait = time_or_never(wait);
        calls.push(quote!(retry_after(#wait)));
    }
    if let Some(backoff) = &options.backoff {
        let (min, max) = (duration(backoff.min), duration(backoff.max));
        let [factor, jitter] = [backoff.factor, backoff.jitter].map(Literal::f64_unsuffixed);
        let backoff =
            quote!(#runtime::Backoff::new(#min, #max).with_factor(#factor).with_jitter(#jitter));
        calls.push(quote!(backoff(#backoff)));
    }
    if let Some(idle) = &options.idle_timeout {
        let timeout = time_or_never(idle);
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
        calls.push(quote!(persist(#runtime::Persist::#level)));
    }
    if let Some(attempts) = options.reminder_attempts {
        let attempts = Literal::u32_unsuffixed(attempts);
        calls.push(quote!(reminder_attempts(#attempts)));
    }
    if let Some(awaits) = options.await_commits {
        calls.push(quote!(await_commits(#awaits)));
    }
    quote!(#runtime::Options::new() #(.#calls)*)
}

fn time_or_never(time: &TimeOrNever) -> TokenStream {
    match time {
        TimeOrNever::After(time) => duration(*time),
        TimeOrNever::Never => quote!(::core::option::Option::None),
    }
}

fn duration(duration: Duration) -> TokenStream {
    let seconds = Literal::u64_unsuffixed(duration.as_secs());
    let nanos = Literal::u32_unsuffixed(duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}
