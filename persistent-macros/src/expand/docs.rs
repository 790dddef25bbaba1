//! The user's documentation on generated items, where `Self` is another type.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Type};

use super::Names;
use crate::syntax::{bare, doc_text};

/// Returns the lines of documentation, with links to `Self::item` that lead to the server's item, or
/// to the type that `owner` returns for the item.
pub(super) fn resolved(
    docs: &[&Attribute],
    owner: impl Fn(&str) -> Option<String>,
    names: &Names,
) -> TokenStream {
    let server = type_path(names);
    let target: &dyn Fn(&str) -> String = &|path| {
        let item = path.trim_end_matches("()");
        let owner = owner(item).unwrap_or_else(|| server.clone());
        format!("{owner}::{item}")
    };
    let mut lines = TokenStream::new();
    let mut definitions = Vec::new();
    for attr in docs {
        match doc_text(attr) {
            Some(text) if text.contains("Self::") => {
                let text = inline_links(&text, target);
                definitions.extend(references(&text, target));
                lines.extend(quote!(#[doc = #text]));
            }
            _ => attr.to_tokens(&mut lines),
        }
    }
    definitions.sort();
    definitions.dedup();
    if !definitions.is_empty() {
        lines.extend(quote!(#[doc = ""] #(#[doc = #definitions])*));
    }
    lines
}

/// Replaces the target of each `[text](Self::item)`.
fn inline_links(text: &str, target: &dyn Fn(&str) -> String) -> String {
    let mut parts = text.split("](Self::");
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (item, rest) = part.split_at(part.find(')').unwrap_or(part.len()));
        replaced.extend(["](", &target(item), rest]);
    }
    replaced
}

/// Returns a definition for each ``[`Self::item`]`` and `[text][Self::item]`.
fn references(text: &str, target: &dyn Fn(&str) -> String) -> Vec<String> {
    let labels = text.split('[').skip(1).filter_map(|part| part.split_once(']'));
    labels
        .filter(|(_, rest)| !rest.starts_with('('))
        .filter_map(|(label, _)| {
            let item = label.trim_matches('`').strip_prefix("Self::")?;
            Some(format!("[{label}]: {}", target(item)))
        })
        .collect()
}

/// Returns the path of the server's type without generic arguments.
fn type_path(names: &Names) -> String {
    match bare(names.server.self_ty) {
        Type::Path(ty) => {
            let segments = ty.path.segments.iter().map(|segment| segment.ident.to_string());
            let start = if ty.path.leading_colon.is_some() { "::" } else { "" };
            start.to_owned() + &segments.collect::<Vec<_>>().join("::")
        }
        _ => names.server.ident.to_string(),
    }
}
