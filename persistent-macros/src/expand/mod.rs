//! The generated items. Every path in them is absolute, and every local
//! variable is out of reach of the user's names.

mod client;
mod docs;
mod message;
mod server;
mod state;
mod tokens;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Attribute, Ident, ReturnType, Signature, Visibility, ext::IdentExt, spanned::Spanned};

use self::tokens::{at_call_site, replace_self, with_span};
use crate::{
    model::{Call, Method, Parameter, Server},
    syntax::{allows, cfgs},
};

/// The names that the generated items share.
struct Names<'a> {
    server: &'a Server<'a>,
    /// The path of the runtime crate.
    runtime: TokenStream,
    /// The visibility of the message enum and the client.
    vis: TokenStream,
    message: Ident,
    /// The variant that uses the type parameters.
    unused: Option<Ident>,
    client: Ident,
    /// `<T: Clone>`
    params: TokenStream,
    /// `<T>`
    arguments: TokenStream,
    /// `where T: Send`
    bounds: TokenStream,
    context: Ident,
    reply: Ident,
    reason: Ident,
}

pub(crate) fn expand(server: &Server) -> TokenStream {
    let names = Names::of(server);
    let items = [
        message::definition(&names),
        message::serialize_impl(&names),
        message::deserialize_impls(&names),
        client::definition(&names),
        client::methods(&names),
        client::clone_impl(&names),
        client::debug_impl(&names),
        client::client_impl(&names),
        server::server_impl(&names),
    ];
    let attributes = attributes(&server.item.attrs);
    items.into_iter().map(|item| quote!(#attributes #item)).collect()
}

impl<'a> Names<'a> {
    fn of(server: &'a Server<'a>) -> Self {
        let (params, arguments, bounds) = server.generics.split_for_impl();
        let local = |name| Ident::new(name, Span::mixed_site());
        let ident = at_call_site(server.ident);
        Self {
            server,
            runtime: match &server.options.runtime {
                Some(path) => path.to_token_stream(),
                None => quote!(::persistent_runtime),
            },
            vis: match &server.options.vis {
                // A private item needs no tokens.
                Some(Visibility::Inherited) => TokenStream::new(),
                Some(vis) => vis.to_token_stream(),
                None => quote!(pub),
            },
            message: format_ident!("{ident}Message"),
            unused: unused(server),
            client: format_ident!("{ident}Client"),
            params: replace_self(params.to_token_stream(), server),
            arguments: arguments.to_token_stream(),
            bounds: replace_self(bounds.to_token_stream(), server),
            context: local("context"),
            reply: local("reply"),
            reason: local("reason"),
        }
    }

    /// Returns the match arm of the variant that uses the type parameters.
    fn unused_arm(&self) -> Option<TokenStream> {
        let message = &self.message;
        self.unused.as_ref().map(|name| quote!(#message::#name(ref unused) => unused.absurd(),))
    }
}

/// Returns a name that no method's variant has, if the server has type parameters.
fn unused(server: &Server) -> Option<Ident> {
    server.generics.type_params().next()?;
    let mut name = "__Unused".to_owned();
    while server.methods.iter().any(|method| method.variant == name) {
        name.push('_');
    }
    Some(Ident::new(&name, Span::call_site()))
}

/// Input: `async fn add(&mut self, points: u64, context: &Context<Self>)`
/// Output: `sendable(Self::add(self, points, context)).await`
fn invoke(call: &Call, Names { runtime, context, reason, .. }: &Names) -> TokenStream {
    let ident = at_call_site(&call.sig.ident);
    let receiver = call.sig.receiver().map(|_| quote_spanned!(ident.span()=> self));
    let parameters = call.parameters.iter().map(|parameter| match parameter {
        Parameter::Field(ident, ..) => at_call_site(ident).to_token_stream(),
        Parameter::Context => context.to_token_stream(),
        Parameter::Reason => reason.to_token_stream(),
        Parameter::Reply(ty) => {
            // The names are those of `Names`; the location is the user's type,
            // for errors about it.
            let span = context.span().located_at(ty.span());
            let (reply, context) = (Ident::new("reply", span), Ident::new("context", span));
            quote_spanned!(span=> #reply.defer::<Self, #ty>(#context))
        }
    });
    let arguments = receiver.into_iter().chain(parameters);
    let value = quote_spanned!(ident.span()=> Self::#ident(#(#arguments),*));
    if call.sig.asyncness.is_some() {
        let runtime = with_span(runtime.clone(), ident.span());
        quote_spanned!(ident.span()=> #runtime::__private::sendable(#value).await)
    } else {
        value
    }
}

/// Returns the written return type of a function.
fn output(sig: &Signature) -> TokenStream {
    match &sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => ty.to_token_stream(),
    }
}

/// Input: `pub fn add_points(&mut self)`
/// Output: `AddPoints`
fn variant(method: &Method) -> Ident {
    Ident::new(&method.variant, at_call_site(&method.call.sig.ident).span())
}

/// Returns the documentation of a method that has none of its own.
fn default_doc(method: &Method, server: &Server) -> TokenStream {
    let doc = format!("Calls `{}::{}`.", server.ident, method.call.sig.ident.unraw());
    quote!(#[doc = #doc])
}

/// Returns the attributes of the user's block or function that the items and match arms generated
/// for it repeat: `cfg`, and the lints that it allows.
fn attributes(attrs: &[Attribute]) -> TokenStream {
    let (cfgs, allows) = (cfgs(attrs), allows(attrs));
    quote!(#(#cfgs)* #(#allows)*)
}
