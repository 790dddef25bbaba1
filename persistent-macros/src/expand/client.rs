//! The client: its type, its methods and its impls.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Ident, ext::IdentExt, spanned::Spanned};

use super::{
    Names, attributes, default_doc, docs, output,
    tokens::{at_call_site, path_string, replace_self},
    variant,
};
use crate::{
    model::{Call, Delivery, Method},
    syntax::{is_doc, is_unit, named},
};

pub(super) fn definition(names: &Names) -> TokenStream {
    let Names { server, runtime, vis, client, params, bounds, .. } = names;
    let self_ty = server.self_ty;
    let doc = format!("A client of one `{}`. Cloning is cheap.", server.ident);
    quote! {
        #[doc = #doc]
        #vis struct #client #params #bounds {
            handle: #runtime::__private::Handle<#self_ty>,
        }
    }
}

pub(super) fn methods(names: &Names) -> TokenStream {
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
fn client_method(method: &Method, names: &Names) -> Option<TokenStream> {
    let Names { server, runtime, message, .. } = names;
    let send = match method.delivery {
        Delivery::Call => quote!(call),
        Delivery::Cast => quote!(cast),
        Delivery::Info => return None,
    };
    let Call { sig, vis, attrs, .. } = &method.call;
    let (ident, variant) = (at_call_site(&sig.ident), variant(method));
    let deprecated = attrs.iter().filter(|attr| named(attr, "deprecated"));
    let attributes = attributes(attrs);
    let docs: Vec<_> = attrs.iter().filter(|attr| is_doc(attr)).collect();
    let own = |function: &str| {
        let methods = server.methods.iter().filter(|method| method.delivery != Delivery::Info);
        let mut names = methods.map(|method| method.call.sig.ident.unraw());
        names.any(|name| name == function).then(|| "Self".to_owned())
    };
    let docs = docs::resolved(&docs, own, names);
    let fallback = (!attrs.iter().any(is_doc)).then(|| default_doc(method, server));
    let error = match path_string(&quote!(#runtime::CallError)) {
        // rustdoc does not resolve it.
        path if path.starts_with("$crate") => "`CallError`".to_owned(),
        path => format!("[`CallError`]({path})"),
    };
    let errors = format!(
        "Returns a {error} if {}.",
        match method.delivery {
            Delivery::Cast => "the message cannot be queued",
            Delivery::Call | Delivery::Info => "no reply arrives",
        }
    );
    let fields: Vec<_> = method.call.fields().map(|(ident, _)| at_call_site(ident)).collect();
    let types = method.call.fields().map(|(_, ty)| replace_self(ty.to_token_stream(), server));
    let (result, is_unit) = match method.call.deferred() {
        Some(ty) => (ty.to_token_stream(), false),
        None => (output(sig), is_unit(&sig.output)),
    };
    let result = replace_self(result, server);
    let bound = (!is_unit)
        .then(|| quote_spanned!(result.span()=> #runtime::__private::assert_payload::<#result>();));
    Some(quote! {
        #attributes
        #(#deprecated)*
        #docs
        #fallback
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = #errors]
        #vis async fn #ident(
            &self,
            #(#fields: #types),*
        ) -> ::core::result::Result<#result, #runtime::CallError> {
            #bound
            self.handle.#send(#message::#variant { #(#fields),* }).await
        }
    })
}

pub(super) fn clone_impl(names: &Names) -> TokenStream {
    let Names { client, params, arguments, bounds, .. } = names;
    quote! {
        #[automatically_derived]
        impl #params ::core::clone::Clone for #client #arguments #bounds {
            fn clone(&self) -> Self {
                Self { handle: ::core::clone::Clone::clone(&self.handle) }
            }
        }
    }
}

pub(super) fn debug_impl(names: &Names) -> TokenStream {
    let Names { client, params, arguments, bounds, .. } = names;
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

pub(super) fn client_impl(names: &Names) -> TokenStream {
    let Names { server, runtime, client, params, arguments, bounds, .. } = names;
    let self_ty = server.self_ty;
    let handle = quote!(#runtime::__private::Handle<#self_ty>);
    quote! {
        #[automatically_derived]
        impl #params #runtime::Client<#self_ty> for #client #arguments #bounds {
            fn from_handle(handle: #handle) -> Self {
                Self { handle }
            }

            fn handle(&self) -> &#handle {
                &self.handle
            }
        }
    }
}
