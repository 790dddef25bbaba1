//! The message enum.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{LitStr, ext::IdentExt, spanned::Spanned};

use super::{
    Names, conditions, default_doc,
    tokens::{at_call_site, path_string, replace_self},
    variant,
};
use crate::{
    model::Method,
    syntax::{is_blank_doc, is_doc},
};

pub(super) fn definition(names: &Names) -> TokenStream {
    let Names { server, runtime, vis, message, params, bounds, .. } = names;
    let serde = quote!(#runtime::__private::serde);
    let serde_path = path_string(&serde);
    // By default, serde bounds each type parameter. The block's own bounds
    // suffice.
    let serde_bound = (!server.generics.params.is_empty())
        .then(|| quote!(bound(serialize = "", deserialize = "")));
    let doc = format!("The messages of a `{}`, one variant per method.", server.ident);
    let variants = server.methods.iter().map(|method| message_variant(method, names));
    let unused = names.has_type_params().then(|| {
        let types = server.generics.type_params().map(|parameter| &parameter.ident);
        quote! {
            #[doc(hidden)]
            #[serde(skip)]
            __Unused(#runtime::__private::Unused<(#(#types,)*)>),
        }
    });
    quote! {
        #[doc = #doc]
        #[derive(::core::fmt::Debug, #serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path, #serde_bound)]
        #vis enum #message #params #bounds {
            #(#variants)*
            #unused
        }
    }
}

/// Input: `pub fn add(&mut self, points: u64) -> u64`
/// Output: `Add { points: u64 },`
fn message_variant(method: &Method, names: &Names) -> TokenStream {
    let Names { server, runtime, .. } = names;
    let variant = variant(method);
    let cfgs = conditions(method);
    let private = path_string(&quote!(#runtime::__private));
    let docs: Vec<_> = method.call.attrs.iter().filter(|attr| is_doc(attr)).collect();
    let summary =
        docs.iter().skip_while(|attr| is_blank_doc(attr)).take_while(|attr| !is_blank_doc(attr));
    let fallback = docs.is_empty().then(|| default_doc(method, server));
    let fields = method.call.fields().map(|(ident, ty)| {
        let doc = format!("The argument `{}`.", ident.unraw());
        let span = ty.span();
        let (ident, ty) = (at_call_site(ident), replace_self(ty.to_token_stream(), server));
        // Serde's derive needs the type's bounds in several places and would
        // repeat a missing one in each. These functions require it once, and
        // the type inside the string keeps its place in the user's code.
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
