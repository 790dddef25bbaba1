//! Expected expansions, and tests of the details that they do not show.

use std::{
    env, fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, File, ImplItem, Item, ItemImpl, LitStr};

use crate::{
    check::check, errors::Errors, model::Server, options::Options, parse::Block, server,
    syntax::doc_text,
};

/// Returns the arguments of the attribute on the block in `source`, and the block.
fn annotated(source: &str) -> (TokenStream, TokenStream) {
    let mut block: ItemImpl = syn::parse_str(source).unwrap();
    let attribute = block.attrs.remove(0);
    assert!(attribute.path().is_ident("persistent_server"));
    let arguments = match attribute.meta {
        syn::Meta::List(list) => list.tokens,
        _ => TokenStream::new(),
    };
    (arguments, block.into_token_stream())
}

fn formatted(tokens: &TokenStream) -> String {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    rustfmt.stdin.take().unwrap().write_all(tokens.to_string().as_bytes()).unwrap();
    let output = rustfmt.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The first line of each file in `tests/output`.
const HEAD: &str = "// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.\n\n";

/// Compares the expansion of a file in `tests/input` with `tests/output`.
/// `UPDATE_GOLDEN=1` overwrites the latter.
fn golden(name: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source = fs::read_to_string(tests.join(format!("input/{name}.rs"))).unwrap();
    let (arguments, block) = annotated(&source);
    let expansion = HEAD.to_owned() + &formatted(&server(arguments, &block));
    let path = tests.join(format!("output/{name}.rs"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &expansion).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(expansion == expected, "run the tests with UPDATE_GOLDEN=1 and review the difference");
}

#[test]
fn a_player_expands_as_documented() {
    golden("player");
}

#[test]
fn hooks_options_and_async_methods_expand_as_documented() {
    golden("hooks");
}

#[test]
fn a_server_with_journaled_messages_expands_as_documented() {
    golden("ledger");
}

#[test]
fn a_generic_server_expands_as_documented() {
    golden("generic");
}

fn errors_of(arguments: TokenStream, block: &TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let block = Block::parse(block).unwrap();
    let options = Options::parse(arguments, &mut errors);
    if let Some(server) = Server::read(&block, options, &mut errors) {
        check(server, &mut errors);
    }
    errors.messages()
}

/// Returns the names of the variants of the generated enum.
fn variants(block: &TokenStream) -> Vec<String> {
    let file: File = syn::parse2(server(TokenStream::new(), block)).unwrap();
    let variants = file.items.into_iter().find_map(|item| match item {
        Item::Enum(item) => Some(item.variants),
        _ => None,
    });
    variants.unwrap().into_iter().map(|variant| variant.ident.to_string()).collect()
}

/// syn 3 keeps the `mut` of `&mut self` in another place than that of `mut self`.
#[test]
fn only_methods_with_a_reference_receiver_have_a_message() {
    let receivers: [(TokenStream, Option<bool>); 10] = [
        (quote!(&self), Some(true)),
        (quote!(&mut self), Some(false)),
        (quote!(self: &Self), Some(true)),
        (quote!(self: &mut Self), Some(false)),
        (quote!(self), None),
        (quote!(mut self), None),
        (quote!(self: Self), None),
        (quote!(self: Box<Self>), None),
        (quote!(self: Pin<&mut Self>), None),
        (quote!(self: &Rc<Self>), None),
    ];
    for (receiver, reads) in receivers {
        let mut errors = Errors::default();
        let block = Block::parse(&quote!(impl Player { pub fn method(#receiver) {} })).unwrap();
        let server = Server::read(&block, Options::default(), &mut errors).unwrap();
        let server = check(server, &mut errors).unwrap();
        assert_eq!(server.methods.first().map(|method| method.call.reads()), reads, "{receiver}");
        assert_eq!(errors.messages().len(), usize::from(reads.is_none()), "{receiver}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let errors = errors_of(
        quote!(mailbox = 0, restrat = permanent),
        &quote! {
            impl Player {
                pub fn rename(&mut self, name: &str, (x, y): (u8, u8)) {}
                pub fn score(&self) -> &u64 { &self.score }
                #[cast]
                fn helper(&self) {}
            }
        },
    );
    assert_eq!(errors.len(), 6, "{errors:#?}");
}

#[test]
fn an_error_in_one_method_keeps_the_others() {
    let block = quote! {
        impl Player {
            pub fn rename(&mut self, name: &str) {}
            pub fn score(&self) -> u64 { self.score }
        }
    };
    assert_eq!(variants(&block), ["Score"]);
}

#[test]
fn a_half_typed_body_keeps_all_methods() {
    let block = quote! {
        impl Player {
            pub fn rename(&mut self) { self.name. }
            const HALF: u64 = ;
            pub fn score(&self) -> u64 { let x = }
        }
    };
    let output = server(TokenStream::new(), &block).to_string();
    assert!(output.starts_with(&block.to_string()));
    assert!(output.contains("Rename") && output.contains("Score"));
    assert!(!output.contains("compile_error"));
}

#[test]
fn the_block_is_emitted_without_the_helper_attributes() {
    let written = quote! {
        /// A player.
        #[allow(unused)]
        impl<T> Player<T> where T: Clone {
            #![allow(dead_code)]
            const LIMIT: [u64; 2] = [{ 1 }, 2];
            #[init]
            #[inline]
            pub(crate) fn new<'a>(name: &'a str) -> Self { Self { name } }
            some_macro!();
            #[cast]
            pub fn reset(&mut self) { self.score = 0 }
        }
    };
    let kept = written.to_string().replace("# [init] ", "").replace("# [cast] ", "");
    assert!(server(TokenStream::new(), &written).to_string().starts_with(&kept));
}

#[test]
fn links_to_self_lead_to_the_clients_methods_and_to_the_items_of_the_server() {
    let block = quote! {
        impl game::Player<u8> {
            /// See [`Self::score`], [`Self::LIMIT`] and [the tick](Self::tick), not [x](Other::x).
            pub fn add(&mut self) {}
            pub fn score(&self) -> u64 { 0 }
            #[info]
            fn tick(&mut self) {}
        }
    };
    let file: File = syn::parse2(server(TokenStream::new(), &block)).unwrap();
    let texts = |attrs: &[Attribute]| attrs.iter().filter_map(doc_text).collect::<Vec<_>>();
    let of_variant = file.items.iter().find_map(|item| match item {
        Item::Enum(item) => Some(texts(&item.variants[0].attrs)),
        _ => None,
    });
    let summary = " See [`Self::score`], [`Self::LIMIT`] and [the tick](game::Player::tick), \
                   not [x](Other::x).";
    assert_eq!(
        of_variant.unwrap(),
        [
            summary,
            "",
            "[`Self::LIMIT`]: game::Player::LIMIT",
            "[`Self::score`]: PlayerClient::score",
        ]
    );
    let of_client = file.items.iter().find_map(|item| match item {
        Item::Impl(item) => item.items.iter().find_map(|item| match item {
            ImplItem::Fn(item) if item.sig.asyncness.is_some() => Some(texts(&item.attrs)),
            _ => None,
        }),
        _ => None,
    });
    assert_eq!(
        of_client.unwrap()[..4],
        [summary, "", "[`Self::LIMIT`]: game::Player::LIMIT", "[`Self::score`]: Self::score",]
    );
}

#[test]
fn a_clients_method_has_the_visibility_of_the_servers_method() {
    let block = quote! {
        impl Player {
            pub(crate) fn add(&mut self) {}
            pub(in crate::game) fn score(&self) -> u64 { 0 }
            pub(self) fn helper(&self) {}
        }
    };
    assert_eq!(variants(&block), ["Add", "Score"]);
    let output = server(TokenStream::new(), &block).to_string();
    assert!(output.contains("pub (crate) async fn add"), "{output}");
    assert!(output.contains("pub (in crate :: game) async fn score"), "{output}");
}

/// An error in a method that a `cfg` removes is none.
#[test]
fn the_error_of_a_conditional_method_has_its_conditions() {
    for (attribute, condition) in [
        (quote!(#[cfg(unix)]), "# [cfg (unix)]"),
        (quote!(#[cfg_attr(unix, skip)]), "# [cfg (not (any (unix)))]"),
        (quote!(#[cfg_attr(a, cfg_attr(b, cast, inline))]), "# [cfg (all (a , b))]"),
    ] {
        let block = quote!(impl Player { #attribute pub fn name(&self) -> &str { "" } });
        let output = server(TokenStream::new(), &block).to_string();
        let error = format!("{condition} :: core :: compile_error");
        assert!(output.contains(&error), "{error}\n{output}");
    }
}

#[test]
fn a_message_is_named_after_its_method() {
    for (method, expected) in [
        ("add", "Add"),
        ("add_points", "AddPoints"),
        ("addPoints", "AddPoints"),
        ("r#type", "Type"),
        ("_add", "_Add"),
        ("_1", "_1"),
        ("__", "__"),
        ("self_", "Self_"),
        ("größe", "Größe"),
    ] {
        let ident = match method.strip_prefix("r#") {
            Some(raw) => syn::Ident::new_raw(raw, Span::call_site()),
            None => format_ident!("{method}"),
        };
        assert_eq!(variants(&quote!(impl Player { pub fn #ident(&self) {} })), [expected]);
    }
}

#[test]
fn conditional_methods_can_have_the_same_name() {
    let block = quote! {
        impl Player {
            #[cfg(unix)]
            pub fn score(&self) -> u64 { 0 }
            #[cfg(not(unix))]
            pub fn score(&self) -> u64 { 1 }
        }
    };
    assert_eq!(errors_of(TokenStream::new(), &block), [""; 0]);
    assert_eq!(variants(&block), ["Score", "Score"]);
}

#[test]
fn all_options_can_be_set_and_none_is_required() {
    let mut errors = Errors::default();
    let options = Options::parse(
        quote! {
            name = "p", version = 7, oldest = 3, key = Pair<u8, (u8, u8)>, restart = permanent, max_restarts(0, within = "1m",),
            retry_after = "1h",
            backoff(factor = 3, min = "1ms", max = "1s"), idle_timeout = "1h 30m", mailbox = 1,
            call_timeout = "1ms", persist = every("1s"), await_commits = true, vis = pub(super), crate = crate::runtime,
        },
        &mut errors,
    );
    assert_eq!(errors.messages(), [""; 0]);
    assert_eq!(options.runtime.to_token_stream().to_string(), "crate :: runtime");
    assert_eq!(options.vis.to_token_stream().to_string(), "pub (super)");
    assert_eq!((options.version, options.oldest), (Some(7), Some(3)));
    assert_eq!(options.await_commits, Some(true));
    assert_eq!(options.key.to_token_stream().to_string(), "Pair < u8 , (u8 , u8) >");
    let options = Options::parse(TokenStream::new(), &mut errors);
    assert_eq!(errors.messages(), [""; 0]);
    assert!(options.runtime.is_none() && options.idle_timeout.is_none());
}

#[test]
fn the_visibility_of_the_generated_types_can_be_set() {
    for (arguments, expected) in [
        (quote!(), "pub "),
        (quote!(vis = pub), "pub "),
        (quote!(vis = pub(crate)), "pub (crate) "),
        (quote!(vis = pub(in crate::league)), "pub (in crate :: league) "),
    ] {
        let output = server(arguments, &quote!(impl Player {})).to_string();
        for item in ["enum PlayerMessage", "struct PlayerClient"] {
            assert!(output.contains(&format!("{expected}{item}")), "{output}");
        }
    }
}

#[test]
fn a_block_without_async_methods_has_no_handle_async() {
    let block = quote!(impl Player { pub fn score(&self) -> u64 { 0 } });
    let output = server(TokenStream::new(), &block).to_string();
    assert!(output.contains("fn handle (") && !output.contains("handle_async"), "{output}");
}

#[test]
fn an_info_has_a_message_and_no_client_method() {
    let block = quote! {
        impl Player {
            #[info]
            fn tick(&mut self) {}
            #[info]
            pub async fn item(&self, item: u64, context: &Context<Self>) {}
        }
    };
    assert_eq!(errors_of(TokenStream::new(), &block), [""; 0]);
    assert_eq!(variants(&block), ["Tick", "Item"]);
    let output = server(TokenStream::new(), &block).to_string();
    assert!(output.contains("impl PlayerClient { }"), "{output}");
}

#[test]
fn a_reply_is_recognized_by_its_name_and_its_one_argument() {
    for (ty, deferred) in [
        (quote!(Reply<u64>), true),
        (quote!((persistent_runtime::Reply<Vec<u64>>)), true),
        (quote!(Reply), false),
        (quote!(Reply<u64, u64>), false),
        (quote!(Reply<4>), false),
        (quote!(Option<Reply<u64>>), false),
        (quote!(Replies<u64>), false),
    ] {
        let block =
            Block::parse(&quote!(impl Player { pub fn ask(&self, _reply: #ty) {} })).unwrap();
        let mut errors = Errors::default();
        let server = Server::read(&block, Options::default(), &mut errors).unwrap();
        let server = check(server, &mut errors).unwrap();
        assert_eq!(server.methods[0].call.deferred().is_some(), deferred, "{ty}");
        assert_eq!(server.methods[0].call.fields().count(), usize::from(!deferred), "{ty}");
    }
}

/// Returns the errors that the attribute reports for all annotated blocks in `source`.
fn reported(source: &TokenStream) -> Vec<String> {
    let trees: Vec<_> = source.clone().into_iter().collect();
    let mut reported = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        let TokenTree::Group(group) = tree else { continue };
        if group.delimiter() == Delimiter::Brace {
            reported.extend(self::reported(&group.stream()));
        }
        let mut attribute = group.stream().into_iter();
        if attribute.next().is_none_or(|tree| tree.to_string() != "persistent_server") {
            continue;
        }
        let arguments = match attribute.next() {
            Some(TokenTree::Group(group)) => group.stream(),
            _ => TokenStream::new(),
        };
        let following = &trees[at + 1..];
        let is_end = |tree: &TokenTree| match tree {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        let end = following.iter().position(is_end).unwrap();
        let block = following[..=end].iter().cloned().collect();
        let output: Vec<_> = server(arguments, &block).into_iter().collect();
        reported.extend(output.windows(3).filter_map(|trees| match trees {
            [TokenTree::Ident(name), _, TokenTree::Group(text)] if name == "compile_error" => {
                Some(syn::parse2::<LitStr>(text.stream()).unwrap().value())
            }
            _ => None,
        }));
    }
    reported
}

/// Runs much faster than the UI tests, which also check the spans of the errors.
#[test]
fn errors_have_the_text_that_the_ui_tests_expect() {
    // rustc reports these: the tokens of the block do not show them.
    const OF_RUSTC: [&str; 2] =
        ["future cannot be sent between threads safely", "unexpected token: `}`"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ui");
    let mut messages = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let mut reported = reported(&fs::read_to_string(&path).unwrap().parse().unwrap());
        reported.sort();
        let shown = fs::read_to_string(path.with_extension("stderr")).unwrap();
        let mut shown: Vec<_> =
            shown.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        shown.retain(|line| !OF_RUSTC.contains(line));
        shown.sort_unstable();
        assert_eq!(reported, shown, "{}", path.display());
        messages += reported.len();
    }
    assert!(messages > 100, "{messages}");
}

#[test]
fn a_type_with_a_static_lifetime_counts_as_owned() {
    let block = quote! {
        impl Player {
            pub fn rename(&mut self, name: Cow<'static, str>) -> Cow<'static, str> { name }
        }
    };
    assert_eq!(errors_of(TokenStream::new(), &block), [""; 0]);
}

/// Otherwise rustc would require serde of a state that does not need it.
#[test]
fn an_invalid_or_unpaired_save_causes_one_error() {
    for block in [
        quote!(impl Player { #[save] fn save(&self) -> u64 { 0 } }),
        quote!(impl Player { #[restore] fn restore(saved: u64) -> Self { Self } }),
        quote! {
            impl Player {
                #[save]
                fn save(&mut self) -> u64 { 0 }
                #[restore]
                fn restore(saved: u64) -> Self { Self }
            }
        },
    ] {
        assert_eq!(errors_of(TokenStream::new(), &block).len(), 1, "{block}");
        let output = server(TokenStream::new(), &block).to_string();
        assert!(!output.contains("__private :: encode ::"), "{output}");
        assert!(!output.contains("__private :: decode ::"), "{output}");
    }
}

#[test]
fn an_invalid_init_keeps_the_type_of_the_init_arguments() {
    let output = server(
        TokenStream::new(),
        &quote!(impl Player { #[init] fn new(name: String, title: &str) -> Self { todo!() } }),
    );
    let file: File = syn::parse2(output).unwrap();
    let init = file.items.iter().find_map(|item| match item {
        Item::Impl(item) => item.items.iter().find_map(|item| match item {
            ImplItem::Type(item) if item.ident == "Init" => Some(item.ty.to_token_stream()),
            _ => None,
        }),
        _ => None,
    });
    assert_eq!(init.unwrap().to_string(), "String");
}

#[test]
fn only_serde_attributes_that_help_to_read_old_messages_are_allowed() {
    let allowed = quote! {
        impl Offer {
            #[info]
            #[serde(alias = "Expire", alias = "End")]
            fn lapse(&mut self, #[serde(default, alias = "d")] days: u32, #[serde(default = "f")] n: u8) {}
        }
    };
    assert_eq!(errors_of(TokenStream::new(), &allowed), [""; 0]);
    for block in [
        quote!(impl Offer { #[init] fn new(#[serde(default)] days: u32) -> Self { Self } }),
        quote!(impl Offer { #[serde(alias = "Old")] #[started] fn started(&self) {} }),
        quote!(impl Offer { #[serde(alias = "Old")] fn helper(&self) {} }),
        quote!(impl Offer { #[serde(rename = "Old")] pub fn renamed(&self) {} }),
        quote!(impl Offer { pub fn skipped(&self, #[serde(skip)] days: u32) {} }),
        quote!(impl Offer { pub fn numbered(&self, #[serde(alias = 7)] days: u32) {} }),
    ] {
        assert_eq!(errors_of(TokenStream::new(), &block).len(), 1, "{block}");
    }
}

/// Regression: a stored message with such a name was read as the first of the two.
#[test]
fn an_earlier_name_belongs_to_one_method_or_argument() {
    for block in [
        quote!(impl Offer { #[serde(alias = "Expire")] pub fn lapse(&self) {} pub fn expire(&self) {} }),
        quote!(impl Offer { pub fn expire(&self) {} #[serde(alias = "Expire")] pub fn lapse(&self) {} }),
        quote!(impl Offer {
            #[serde(alias = "Expire")] pub fn lapse(&self) {}
            #[serde(alias = "Expire")] pub fn end(&self) {}
        }),
        quote!(impl Offer { pub fn lapse(&self, #[serde(alias = "b")] a: u8, b: u8) {} }),
        quote!(impl Offer {
            pub fn lapse(&self, #[serde(alias = "c")] a: u8, #[serde(alias = "c")] b: u8) {}
        }),
    ] {
        let errors = errors_of(TokenStream::new(), &block);
        assert_eq!(errors.len(), 1, "{block}");
        assert!(errors[0].contains("already"), "{errors:?}");
    }
    let either = quote!(impl Offer {
        #[cfg(a)] #[serde(alias = "Expire")] pub fn lapse(&self) {}
        #[cfg(not(a))] pub fn expire(&self) {}
    });
    assert_eq!(errors_of(TokenStream::new(), &either), [""; 0]);
}
