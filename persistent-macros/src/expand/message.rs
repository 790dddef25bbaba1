//! The message enum and its serde form.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{ext::IdentExt, parse_quote, spanned::Spanned};

use super::{
    Names, attributes, default_doc, docs,
    tokens::{at_call_site, replace_self},
    variant,
};
use crate::{
    model::{Delivery, Method, Parameter},
    syntax::{Stored, is_blank_doc, is_doc},
};

pub(super) fn definition(names: &Names) -> TokenStream {
    let Names { server, runtime, vis, message, params, bounds, .. } = names;
    let doc = format!("The messages of a `{}`, one variant per method.", server.ident);
    let variants = server.methods.iter().map(|method| message_variant(method, names));
    let unused = names.unused.as_ref().map(|unused| {
        let types = server.generics.type_params().map(|parameter| &parameter.ident);
        quote! {
            #[doc(hidden)]
            #unused(#runtime::__private::Unused<(#(#types,)*)>),
        }
    });
    quote! {
        #[doc = #doc]
        #[derive(::core::fmt::Debug)]
        #vis enum #message #params #bounds {
            #(#variants)*
            #unused
        }
    }
}

/// Input: `pub fn add(&mut self, points: u64) -> u64`
/// Output: `Add { points: u64 },`
fn message_variant(method: &Method, names: &Names) -> TokenStream {
    let Names { server, .. } = names;
    let variant = variant(method);
    let attributes = attributes(method.call.attrs);
    let docs: Vec<_> = method.call.attrs.iter().filter(|attr| is_doc(attr)).collect();
    let summary: Vec<_> = docs
        .iter()
        .copied()
        .skip_while(|attr| is_blank_doc(attr))
        .take_while(|attr| !is_blank_doc(attr))
        .collect();
    // A variant stands for the client's method, if there is one.
    let client = &names.client;
    let summary = docs::resolved(
        &summary,
        |function| {
            let target =
                server.methods.iter().find(|method| method.call.sig.ident.unraw() == function);
            target
                .is_some_and(|target| target.delivery != Delivery::Info)
                .then(|| client.to_string())
        },
        names,
    );
    let fallback = docs.is_empty().then(|| default_doc(method, server));
    let fields: Vec<_> = method
        .call
        .fields()
        .map(|(ident, ty)| {
            let doc = format!("The argument `{}`.", ident.unraw());
            let (ident, ty) = (at_call_site(ident), replace_self(ty.to_token_stream(), server));
            quote!(#[doc = #doc] #ident: #ty)
        })
        .collect();
    let body = (!fields.is_empty()).then(|| quote!({ #(#fields),* }));
    quote! {
        #attributes
        #summary
        #fallback
        #variant #body,
    }
}

/// The form that serde's derive would write. The derive itself takes paths as strings, which cannot
/// contain `$crate`, and needs the bounds of each argument's type in several places, so that a
/// missing one would be reported several times.
pub(super) fn serialize_impl(names: &Names) -> TokenStream {
    let Names { server, runtime, message, params, arguments, bounds, .. } = names;
    let private = quote!(#runtime::__private);
    let serde = quote!(#private::serde);
    let name = message.to_string();
    let (serializer, content) = (local("serializer"), local("content"));
    let arms = server.methods.iter().zip(0..).map(|(method, index)| {
        let (attributes, variant) = (attributes(method.call.attrs), variant(method));
        let (tag, index) = (variant.to_string(), Literal::u32_unsuffixed(index));
        let fields: Vec<_> = Field::of(method, names).collect();
        if fields.is_empty() {
            return quote! {
                #attributes
                #message::#variant => #serde::Serializer::serialize_unit_variant(
                    #serializer, #name, #index, #tag,
                ),
            };
        }
        let count = Literal::usize_unsuffixed(fields.len());
        let patterns = fields.iter().map(|Field { ident, local, .. }| quote!(#ident: ref #local));
        let writes = fields.iter().map(|Field { name, ty, local, span, .. }| {
            let local = with_location(local, *span);
            quote_spanned! {*span=>
                #private::write_argument::<#ty, _>(&mut #content, #name, #local)?;
            }
        });
        quote! {
            #attributes
            #message::#variant { #(#patterns),* } => {
                let mut #content = #serde::Serializer::serialize_struct_variant(
                    #serializer, #name, #index, #tag, #count,
                )?;
                #(#writes)*
                #serde::ser::SerializeStructVariant::end(#content)
            }
        }
    });
    let unused = names.unused_arm();
    quote! {
        #[automatically_derived]
        impl #params #serde::Serialize for #message #arguments #bounds {
            fn serialize<__S: #serde::Serializer>(
                &self,
                #serializer: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                match *self {
                    #(#arms)*
                    #unused
                }
            }
        }
    }
}

pub(super) fn deserialize_impls(names: &Names) -> TokenStream {
    let Names { server, runtime, message, params, arguments, bounds, .. } = names;
    let private = quote!(#runtime::__private);
    let name = message.to_string();
    let tags = server.methods.iter().map(|method| variant(method).to_string());
    let aliases: Vec<_> = server
        .methods
        .iter()
        .flat_map(|method| {
            let tag = variant(method).to_string();
            let stored = Stored::of(method.call.stored, false).unwrap_or_default();
            stored.aliases.into_iter().map(move |alias| quote!((#alias, #tag)))
        })
        .collect();
    let aliases = (!aliases.is_empty()).then(
        || quote!(const ALIASES: &'static [(&'static str, &'static str)] = &[#(#aliases),*];),
    );
    let shapes = server.methods.iter().map(|method| {
        let (attributes, variant) = (attributes(method.call.attrs), variant(method));
        let tag = variant.to_string();
        let fields: Vec<_> = Field::of(method, names).collect();
        let shape = if fields.is_empty() {
            quote!(Unit(#message::#variant))
        } else {
            let names = fields.iter().map(|field| &field.name);
            let aliases = fields.iter().zip(0..).flat_map(|(field, index)| {
                let index = Literal::usize_unsuffixed(index);
                field.stored.aliases.iter().map(move |alias| quote!((#alias, #index)))
            });
            quote!(Arguments(&[#(#names),*], &[#(#aliases),*]))
        };
        quote!(#attributes #tag => ::core::option::Option::Some(#private::Shape::#shape),)
    });
    let (tag, source) = (local("tag"), local("source"));
    let reads: Vec<_> =
        server.methods.iter().filter_map(|method| read_arm(method, &source, names)).collect();
    let read = (!reads.is_empty()).then(|| {
        quote! {
            fn read<'de, __A: #private::Arguments<'de>>(
                #tag: &str,
                mut #source: __A,
            ) -> ::core::result::Result<Self, __A::Error> {
                match #tag {
                    #(#reads)*
                    _ => ::core::result::Result::Err(#private::unknown::<Self, _>(#tag)),
                }
            }
        }
    });
    let mut generics = server.generics.clone();
    generics.params.insert(0, parse_quote!('de));
    let with_lifetime = replace_self(generics.split_for_impl().0.to_token_stream(), server);
    let serde = quote!(#private::serde);
    quote! {
        #[automatically_derived]
        impl #params #private::MessageEnum for #message #arguments #bounds {
            const NAME: &'static str = #name;
            const VARIANTS: &'static [&'static str] = &[#(#tags),*];
            #aliases

            fn shape(#tag: &str) -> ::core::option::Option<#private::Shape<Self>> {
                match #tag {
                    #(#shapes)*
                    _ => ::core::option::Option::None,
                }
            }

            #read
        }

        #[automatically_derived]
        impl #with_lifetime #serde::Deserialize<'de> for #message #arguments #bounds {
            fn deserialize<__D: #serde::Deserializer<'de>>(
                deserializer: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                #private::read_message(deserializer)
            }
        }
    }
}

/// Returns `None` for a message without arguments.
fn read_arm(method: &Method, source: &Ident, names: &Names) -> Option<TokenStream> {
    let Names { runtime, message, .. } = names;
    let private = quote!(#runtime::__private);
    let (attributes, variant) = (attributes(method.call.attrs), variant(method));
    let tag = variant.to_string();
    let fields: Vec<_> = Field::of(method, names).collect();
    if fields.is_empty() {
        return None;
    }
    let locals = fields.iter().map(|Field { local, .. }| local);
    let reads = fields.iter().zip(0..).map(|(Field { ty, local, span, .. }, index)| {
        let (index, local) = (Literal::usize_unsuffixed(index), with_location(local, *span));
        quote_spanned! {*span=>
            ::core::option::Option::Some(#index) => {
                #private::Arguments::read::<#ty>(&mut #source, &mut #local)?
            }
        }
    });
    let takes = fields.iter().map(|Field { ident, name, ty, local, span, stored }| {
        let local = with_location(local, *span);
        match &stored.default {
            None => quote_spanned! {*span=>
                #ident: #private::Arguments::take::<#ty>(&#source, #name, #local)?
            },
            Some(default) => quote_spanned!(*span=> #ident: #local.unwrap_or_else(#default)),
        }
    });
    Some(quote! {
        #attributes
        #tag => {
            #(let mut #locals = ::core::option::Option::None;)*
            loop {
                match #private::Arguments::next(&mut #source)? {
                    #(#reads)*
                    _ => break,
                }
            }
            ::core::result::Result::Ok(#message::#variant { #(#takes),* })
        }
    })
}

/// An argument of a message.
struct Field {
    ident: Ident,
    /// The stored name.
    name: String,
    ty: TokenStream,
    /// The variable of generated code that holds it.
    local: Ident,
    /// The location of the user's type. rustc reports there that it lacks a trait.
    span: Span,
    stored: Stored,
}

impl Field {
    fn of(method: &Method, names: &Names) -> impl Iterator<Item = Self> {
        let fields = method.call.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Field(ident, ty, attrs) => Some((*ident, *ty, *attrs)),
            Parameter::Context | Parameter::Reason | Parameter::Reply(_) => None,
        });
        fields.enumerate().map(|(index, (ident, ty, attrs))| Self {
            // `check` has reported other attributes.
            stored: Stored::of(attrs, true).unwrap_or_default(),
            ident: at_call_site(ident),
            name: ident.unraw().to_string(),
            ty: replace_self(ty.to_token_stream(), names.server),
            local: local(&format!("field{index}")),
            span: Span::mixed_site().located_at(ty.span()),
        })
    }
}

/// Returns a variable that the user's tokens cannot name.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn with_location(local: &Ident, span: Span) -> Ident {
    Ident::new(&local.to_string(), local.span().located_at(span))
}
