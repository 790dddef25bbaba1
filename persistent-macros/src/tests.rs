//! Golden expansions, and what is hard to see in them.

use std::{
    env, fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{File, ImplItem, Item, ItemImpl, LitStr};

use crate::{check::check, errors::Errors, model::Server, options::Options, parse::Block, server};

/// The attribute's arguments of the first block in `source`, and the block.
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

/// Compares with `tests/output`; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source = fs::read_to_string(tests.join(format!("input/{name}.rs"))).unwrap();
    let (arguments, block) = annotated(&source);
    let expansion = formatted(&server(arguments, &block));
    let path = tests.join(format!("output/{name}.rs"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &expansion).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(expansion == expected, "run again with UPDATE_GOLDEN=1 and read the difference");
}

#[test]
fn a_player_expands_as_documented() {
    golden("player");
}

#[test]
fn hooks_and_options_expand_as_documented() {
    golden("hooks");
}

#[test]
fn a_server_that_journals_its_messages_expands_as_documented() {
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

/// The variants of the generated enum.
fn variants(block: &TokenStream) -> Vec<String> {
    let file: File = syn::parse2(server(TokenStream::new(), block)).unwrap();
    let variants = file.items.into_iter().find_map(|item| match item {
        Item::Enum(item) => Some(item.variants),
        _ => None,
    });
    variants.unwrap().into_iter().map(|variant| variant.ident.to_string()).collect()
}

/// In syn 3 the `mut` of `&mut self` is not where that of `mut self` is.
#[test]
fn of_all_receivers_only_references_make_a_message() {
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
fn every_mistake_is_reported_at_once() {
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
fn a_method_with_a_mistake_leaves_the_others() {
    let block = quote! {
        impl Player {
            pub fn rename(&mut self, name: &str) {}
            pub fn score(&self) -> u64 { self.score }
        }
    };
    assert_eq!(variants(&block), ["Score"]);
}

#[test]
fn a_half_typed_body_leaves_the_others_and_itself() {
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
fn the_users_block_stays_but_for_the_helper_attributes() {
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
fn a_method_makes_a_message_of_its_own_name() {
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
fn methods_of_one_name_may_exclude_each_other() {
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
fn every_option_can_be_set_and_none_need_be() {
    let mut errors = Errors::default();
    let options = Options::parse(
        quote! {
            name = "p", version = 7, restart = permanent, max_restarts(0, within = "1m",),
            backoff(factor = 3, min = "1ms", max = "1s"), idle_timeout = "1h 30m", mailbox = 1,
            call_timeout = "1ms", persist = every("1s"), crate = crate::runtime,
        },
        &mut errors,
    );
    assert_eq!(errors.messages(), [""; 0]);
    assert_eq!(options.runtime.to_token_stream().to_string(), "crate :: runtime");
    assert_eq!(options.version, Some(7));
    let options = Options::parse(TokenStream::new(), &mut errors);
    assert_eq!(errors.messages(), [""; 0]);
    assert!(options.runtime.is_none() && options.idle_timeout.is_none());
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
fn a_reply_is_told_by_its_name_and_its_one_argument() {
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

/// What is told of the annotated blocks in `source`.
fn told(source: &TokenStream) -> Vec<String> {
    let trees: Vec<_> = source.clone().into_iter().collect();
    let mut told = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        let TokenTree::Group(group) = tree else { continue };
        if group.delimiter() == Delimiter::Brace {
            told.extend(self::told(&group.stream()));
        }
        let mut attribute = group.stream().into_iter();
        if attribute.next().is_none_or(|tree| tree.to_string() != "persistent_server") {
            continue;
        }
        let arguments = match attribute.next() {
            Some(TokenTree::Group(group)) => group.stream(),
            _ => TokenStream::new(),
        };
        let rest = &trees[at + 1..];
        let is_end = |tree: &TokenTree| match tree {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        let end = rest.iter().position(is_end).unwrap();
        let block = rest[..=end].iter().cloned().collect();
        let output: Vec<_> = server(arguments, &block).into_iter().collect();
        told.extend(output.windows(3).filter_map(|trees| match trees {
            [TokenTree::Ident(name), _, TokenTree::Group(text)] if name == "compile_error" => {
                Some(syn::parse2::<LitStr>(text.stream()).unwrap().value())
            }
            _ => None,
        }));
    }
    told
}

/// Those tests show also where a message stands. This one takes a moment.
#[test]
fn mistakes_are_told_word_for_word_as_the_ui_tests_have_it() {
    // Nothing of these stands in the block's tokens alone.
    const OF_THE_COMPILER: [&str; 2] =
        ["future cannot be sent between threads safely", "unexpected token: `}`"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ui");
    let mut messages = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let mut told = told(&fs::read_to_string(&path).unwrap().parse().unwrap());
        told.sort();
        let shown = fs::read_to_string(path.with_extension("stderr")).unwrap();
        let mut shown: Vec<_> =
            shown.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        shown.retain(|line| !OF_THE_COMPILER.contains(line));
        shown.sort_unstable();
        assert_eq!(told, shown, "{}", path.display());
        messages += told.len();
    }
    assert!(messages > 100, "{messages}");
}

#[test]
fn what_lives_for_ever_is_owned() {
    let block = quote! {
        impl Player {
            pub fn rename(&mut self, name: Cow<'static, str>) -> Cow<'static, str> { name }
        }
    };
    assert_eq!(errors_of(TokenStream::new(), &block), [""; 0]);
}

/// Else the state would be blamed for a serde that it need not have.
#[test]
fn a_broken_or_lonely_save_entails_no_second_error() {
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
fn a_broken_init_entails_no_second_error() {
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
