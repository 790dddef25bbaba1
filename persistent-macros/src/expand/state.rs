//! The creation and the stored form of a state: `init`, `encode`, `decode` and
//! the migrations.

use std::iter;

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;

use super::{
    Names, attributes, invoke, output,
    tokens::{at_call_site, user_span, with_span},
};
use crate::{
    model::{Migration, Override, Subject},
    syntax::borrows,
};

/// Returns the type `Init` and the function `init`.
pub(super) fn init(names: &Names) -> TokenStream {
    let Names { server, runtime, context, .. } = names;
    let self_ty = server.self_ty;
    let (call, state) = match &server.init {
        Override::Default => {
            let default = quote_spanned!(self_ty.span()=> #runtime::__private::default_state);
            (None, quote!(::core::result::Result::Ok(#default::<#self_ty>())))
        }
        Override::Function(call) => {
            let (value, output) = (invoke(call, names), output(call.sig));
            (
                Some(call),
                quote!(<#output as #runtime::__private::InitOutput<Self>>::into_state(#value)),
            )
        }
        Override::Invalid(call) => (Some(call), quote!(::core::unimplemented!())),
    };
    let fields: Vec<_> = call.iter().flat_map(|call| call.fields()).collect();
    let (ty, pattern) = match fields[..] {
        [(ident, ty)] => (ty.to_token_stream(), at_call_site(ident).to_token_stream()),
        _ => {
            let types = fields.iter().map(|(_, ty)| ty);
            let idents = fields.iter().map(|(ident, _)| at_call_site(ident));
            (quote!((#(#types),*)), quote!((#(#idents),*)))
        }
    };
    let attributes = call.map(|call| attributes(call.attrs));
    quote! {
        #attributes
        type Init = #ty;

        #attributes
        async fn init(
            #pattern: Self::Init,
            #context: &#runtime::Context<Self>,
        ) -> ::core::result::Result<Self, #runtime::__private::String> {
            #state
        }
    }
}

pub(super) fn encode(names: &Names) -> TokenStream {
    let Names { server, runtime, .. } = names;
    let self_ty = server.self_ty;
    let encode = quote!(#runtime::__private::encode);
    let body = match (&server.save, &server.restore) {
        (Override::Default, Override::Default) => {
            quote_spanned!(user_span(self_ty)=> #encode::<#self_ty>(self, buffer))
        }
        (Override::Function(save), Override::Function(restore)) => {
            let (value, saved) = (invoke(save, names), output(save.sig));
            let written = user_span(&saved);
            // A form that borrows from the state differs from the type that
            // `#[restore]` takes. Any other form must be that type: naming it here
            // makes rustc check that.
            let form = match restore.stored() {
                (_, ty) if !borrows(saved.clone()) => ty.to_token_stream(),
                _ => saved,
            };
            let encode = quote_spanned!(form.span()=> #encode::<#form>);
            let value = with_span(quote!(&#value), written);
            quote!(#encode(#value, buffer))
        }
        _ => quote!(::core::unimplemented!()),
    };
    quote! {
        fn encode(
            &self,
            buffer: &mut #runtime::__private::Vec<u8>,
        ) -> ::core::result::Result<(), #runtime::EncodeError> {
            #body
        }
    }
}

/// Returns the function `check`. It names the same types at the same places as `encode` and
/// `decode`, so that rustc reports each unmet bound once.
pub(super) fn check(names: &Names) -> TokenStream {
    let Names { server, runtime, .. } = names;
    let self_ty = server.self_ty;
    let (check, check_decodes) =
        (quote!(#runtime::__private::check), quote!(#runtime::__private::check_decodes));
    let (encode, decode) =
        (quote!(#runtime::__private::encode), quote!(#runtime::__private::decode));
    // Not with the span of the type, which another macro may have passed.
    let bytes = quote!(bytes);
    let body = match (&server.save, &server.restore) {
        (Override::Default, Override::Default) => {
            let span = user_span(self_ty);
            quote_spanned!(span=> #check(#bytes, #decode::<#self_ty>, #encode::<#self_ty>))
        }
        (Override::Function(save), Override::Function(restore)) => {
            let (_, ty) = restore.stored();
            if borrows(output(save.sig)) {
                quote_spanned!(ty.span()=> #check_decodes(#bytes, #decode::<#ty>))
            } else {
                quote_spanned!(ty.span()=> #check(#bytes, #decode::<#ty>, #encode::<#ty>))
            }
        }
        _ => quote!(::core::unimplemented!()),
    };
    quote! {
        fn check(bytes: &[u8]) -> ::core::result::Result<(), #runtime::EncodeError> {
            #body
        }
    }
}

pub(super) fn decode(names: &Names) -> TokenStream {
    let Names { server, runtime, context, .. } = names;
    let self_ty = server.self_ty;
    let current = Literal::u32_unsuffixed(server.version());
    let decode = quote!(#runtime::__private::decode);
    let own = match (&server.save, &server.restore) {
        (Override::Default, Override::Default) => {
            quote_spanned!(user_span(self_ty)=> #decode::<#self_ty>(bytes))
        }
        (Override::Function(_), Override::Function(restore)) => {
            let (ident, ty) = restore.stored();
            let (value, output, ident) =
                (invoke(restore, names), output(restore.sig), at_call_site(ident));
            let decode = quote_spanned!(ty.span()=> #decode::<#ty>);
            let restored =
                quote_spanned!(output.span()=> #runtime::__private::restored::<Self, #output>);
            quote!(#decode(bytes).and_then(|#ident| #restored(#value)))
        }
        _ => quote!(::core::unimplemented!()),
    };
    let migrations = server.migrations_of(Subject::State).map(|migration| {
        let Migration { from, call, .. } = migration;
        let (attributes, (_, old)) = (attributes(call.attrs), call.stored());
        let old = quote_spanned!(old.span()=> #decode::<#old>);
        let steps = steps(migration, names).map(|migration| {
            let ident = &migration.call.sig.ident;
            let next = server.next(migration).map(|next| next.call.stored().1);
            let ty = next.map(|ty| quote!(: #ty));
            // rustc reports here that the next migration takes another type.
            let written = user_span(&output(migration.call.sig));
            let value = with_span(quote!(Self::#ident(state)), written);
            quote!(let state #ty = #value;)
        });
        quote!(#attributes #from => #old(bytes).map(|state| { #(#steps)* state }),)
    });
    quote! {
        fn decode(
            version: u32,
            bytes: &[u8],
            #context: &#runtime::Context<Self>,
        ) -> ::core::result::Result<Self, #runtime::DecodeError> {
            match version {
                #current => #own,
                #(#migrations)*
                stored => ::core::result::Result::Err(
                    #runtime::DecodeError::Version { stored, current: #current },
                ),
            }
        }
    }
}

/// Returns `None` if there are no migrations of messages. The provided
/// `decode_message` reads messages of the current version.
pub(super) fn decode_message(names: &Names) -> Option<TokenStream> {
    let Names { server, runtime, .. } = names;
    let current = Literal::u32_unsuffixed(server.version());
    let decode = quote!(#runtime::__private::decode_next);
    let decode_own = quote!(#runtime::__private::decode_message);
    let migrations = server.migrations_of(Subject::Message).map(|migration| {
        let Migration { from, call, .. } = migration;
        let (attributes, (_, old)) = (attributes(call.attrs), call.stored());
        let decode = quote_spanned!(old.span()=> #decode::<#old>);
        let steps = steps(migration, names).map(|step| {
            let (ident, output) = (&step.call.sig.ident, output(step.call.sig));
            let new = match server.next(step) {
                Some(next) => next.call.stored().1.to_token_stream(),
                None => quote!(Self::Message),
            };
            let migrated =
                quote_spanned!(output.span()=> #runtime::__private::migrated::<#new, #output>);
            quote!(.and_then(|old| #migrated(Self::#ident(old))))
        });
        quote! {
            #attributes
            #from => #decode(bytes)
                .map(|old| ::core::option::Option::Some(old) #(#steps)*),
        }
    });
    let migrations: Vec<_> = migrations.collect();
    (!migrations.is_empty()).then(|| quote! {
        fn decode_message(
            version: u32,
            bytes: &mut &[u8],
        ) -> ::core::result::Result<::core::option::Option<Self::Message>, #runtime::DecodeError> {
            match version {
                #current => #decode_own::<Self::Message>(bytes).map(::core::option::Option::Some),
                #(#migrations)*
                stored => ::core::result::Result::Err(
                    #runtime::DecodeError::Version { stored, current: #current },
                ),
            }
        }
    })
}

/// Returns the migrations that convert a stored form to the current one, in order.
fn steps<'s, 'a>(
    first: &'s Migration<'a>,
    names: &'s Names<'a>,
) -> impl Iterator<Item = &'s Migration<'a>> {
    iter::successors(Some(first), |migration| names.server.next(migration))
}
