//! Keys: the values that name the servers of a type, and their text.

use std::{borrow::Cow, sync::Arc};

/// A value that names a server, in place of a text.
///
/// A server type with `#[persistent_server(key = UserId)]` has keys of the type `UserId`: the
/// functions that take a key take a `UserId` or a `&UserId`, and [`Context::key`](crate::Context::key),
/// [`Client::key`](crate::Client::key) and [`Address::key`](crate::Address::key) return one. The
/// servers are stored under the text of their keys, which errors, events and
/// [`Runtime::keys`](crate::Runtime::keys) show.
///
/// Implemented for `String`, `char`, `bool`, the integers, and tuples of up to four keys. The text
/// of these keys has the order of the keys: integers are padded with zeros. A type of your own needs
/// two functions:
///
/// ```
/// use persistent_runtime::{Client, Context, Key, Runtime, persistent_server};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct UserId(u64);
///
/// impl Key for UserId {
///     fn to_text(&self) -> String { self.0.to_text() }
///     fn from_text(text: &str) -> Option<Self> { u64::from_text(text).map(Self) }
/// }
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Account { balance: u64 }
///
/// #[persistent_server(key = UserId)]
/// impl Account {
///     pub fn owner(&self, context: &Context<Self>) -> u64 {
///         context.key().0
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::in_memory().await?;
/// let account = runtime.at::<Account>(UserId(17), ());
/// assert_eq!(account.owner().await?, 17);
/// assert_eq!(account.key(), UserId(17));
///
/// let mut keys = runtime.keys::<Account>();
/// while let Some(text) = keys.next().await {
///     assert_eq!(UserId::from_text(&text?), Some(UserId(17)));
/// }
/// # Ok(()) }
/// ```
///
/// For a type with `Display` and `FromStr`, such as `uuid::Uuid`, the functions are
/// `self.0.to_string()` and `text.parse().ok().map(Self)`.
pub trait Key: Sized {
    /// Returns the text of the key. Different keys have different texts.
    ///
    /// The text is stored: a change of it makes the stored servers unreachable.
    fn to_text(&self) -> String;

    /// Returns the key that has this text: the reverse of [`to_text`](Self::to_text). Returns `None`
    /// for any other text.
    fn from_text(text: &str) -> Option<Self>;
}

/// The type of the keys of a server type: `str`, or a type that implements [`Key`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of keys",
    label = "this must implement `Key`"
)]
pub trait KeyType {
    /// The key as handlers and callers get it: `&str`, or the [`Key`] itself.
    type Value<'a>;

    /// Returns the key that has this text, if there is one.
    fn parse(text: &str) -> Option<Self::Value<'_>>;
}

impl KeyType for str {
    type Value<'a> = &'a str;

    fn parse(text: &str) -> Option<&str> {
        Some(text)
    }
}

impl<K: Key> KeyType for K {
    type Value<'a> = K;

    fn parse(text: &str) -> Option<K> {
        K::from_text(text)
    }
}

/// Returns the key of a server whose text was checked or written by its own type.
pub(crate) fn key_of<K: KeyType + ?Sized>(text: &str) -> K::Value<'_> {
    K::parse(text).expect("`Key::from_text` must read what `Key::to_text` wrote")
}

/// A value that can be passed as a key of the type `K`.
///
/// A server type without `key = …` has the type `str`, and takes every owned or borrowed text. With
/// `key = UserId`, it takes a `UserId` or a `&UserId`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key of this server",
    label = "the keys of this server have the type `{K}`",
    note = "`#[persistent_server(key = UserId)]` sets the type of the keys"
)]
pub trait IntoKey<K: ?Sized> {
    /// Returns the text of the key.
    fn into_key(self) -> Arc<str>;
}

impl<K: Key> IntoKey<K> for K {
    fn into_key(self) -> Arc<str> {
        self.to_text().into()
    }
}

impl<K: Key> IntoKey<K> for &K {
    fn into_key(self) -> Arc<str> {
        self.to_text().into()
    }
}

macro_rules! text {
    ($($text:ty: $convert:expr,)*) => {$(
        impl IntoKey<str> for $text {
            fn into_key(self) -> Arc<str> {
                $convert(self)
            }
        }
    )*};
}

text! {
    &str: Arc::from,
    String: Arc::from,
    &String: |text: Self| Arc::from(text.as_str()),
    Arc<str>: |text| text,
    &Arc<str>: Arc::clone,
    Box<str>: Arc::from,
    &Box<str>: |text: Self| Arc::from(&**text),
    Cow<'_, str>: Arc::from,
    &Cow<'_, str>: |text: Self| Arc::from(&**text),
}

impl Key for String {
    fn to_text(&self) -> String {
        self.clone()
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Key for char {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Key for bool {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Returns the text if it consists of this number of digits.
fn digits(text: &str, count: usize) -> Option<&str> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

macro_rules! unsigned {
    ($($int:ty: $digits:literal,)*) => {$(
        impl Key for $int {
            fn to_text(&self) -> String {
                format!("{self:0>width$}", width = $digits)
            }

            fn from_text(text: &str) -> Option<Self> {
                digits(text, $digits)?.parse().ok()
            }
        }
    )*};
}

// A `usize` has the same text on all platforms.
unsigned! { u8: 3, u16: 5, u32: 10, u64: 20, u128: 39, usize: 20, }

macro_rules! signed {
    ($($int:ty: $digits:literal,)*) => {$(
        /// A negative number is a minus and its distance from the smallest number, so that the texts
        /// have the order of the numbers.
        impl Key for $int {
            fn to_text(&self) -> String {
                match *self {
                    0.. => format!("{self:0>width$}", width = $digits),
                    _ => format!("-{:0>width$}", self - <$int>::MIN, width = $digits),
                }
            }

            fn from_text(text: &str) -> Option<Self> {
                match text.strip_prefix('-') {
                    None => digits(text, $digits)?.parse().ok(),
                    Some(distance) => {
                        digits(distance, $digits)?.parse::<$int>().ok()?.checked_add(<$int>::MIN)
                    }
                }
            }
        }
    )*};
}

signed! { i8: 3, i16: 5, i32: 10, i64: 19, i128: 39, isize: 19, }

/// The character between the parts of a tuple. Smaller than each character of an escaped part, so
/// that the texts have the order of the tuples.
const SEPARATOR: char = ' ';
/// Begins an escaped character: one up to and including this one.
const ESCAPE: char = '!';

/// Appends a part in which each character up to `ESCAPE` is escaped.
fn push_part(text: &mut String, part: &str) {
    for char in part.chars() {
        if char > ESCAPE {
            text.push(char);
        } else {
            text.push(ESCAPE);
            text.extend(char::from_u32(u32::from(char) + u32::from(ESCAPE)));
        }
    }
}

/// Returns the original of an escaped part.
fn read_part(part: &str) -> Option<String> {
    let mut chars = part.chars();
    let mut text = String::new();
    while let Some(char) = chars.next() {
        text.push(match char {
            ESCAPE => {
                let escaped = u32::from(chars.next()?).checked_sub(u32::from(ESCAPE))?;
                char::from_u32(escaped).filter(|char| *char <= ESCAPE)?
            }
            char if char > ESCAPE => char,
            _ => return None,
        });
    }
    Some(text)
}

macro_rules! tuple {
    ($($part:ident $index:tt),*) => {
        impl<$($part: Key),*> Key for ($($part,)*) {
            fn to_text(&self) -> String {
                let mut text = String::new();
                $(
                    if $index > 0 {
                        text.push(SEPARATOR);
                    }
                    push_part(&mut text, &self.$index.to_text());
                )*
                text
            }

            fn from_text(text: &str) -> Option<Self> {
                let mut parts = text.split(SEPARATOR);
                let key = ($($part::from_text(&read_part(parts.next()?)?)?,)*);
                parts.next().is_none().then_some(key)
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    /// Checks keys that are given in their order.
    fn check<K: Key + PartialEq + Debug>(keys: &[K]) {
        let texts: Vec<_> = keys.iter().map(Key::to_text).collect();
        for (key, text) in keys.iter().zip(&texts) {
            assert_eq!(K::from_text(text).as_ref(), Some(key), "{text:?}");
        }
        assert!(texts.is_sorted_by(|a, b| a < b), "{texts:?}");
    }

    #[test]
    fn the_texts_of_keys_have_the_order_of_the_keys() {
        check(&[0, 1, 9, 10, u64::MAX]);
        check(&[0, 1, u128::MAX]);
        check(&[i8::MIN, -100, -2, -1, 0, 1, 2, 100, i8::MAX]);
        check(&[i128::MIN, -1, 0, i128::MAX]);
        check(&[isize::MIN, -1, 0, isize::MAX]);
        check(&[false, true]);
        check(&['\0', ' ', 'a', 'ä']);
        let strings =
            ["", "\0", "\0a", " ", " b", "!", "!!", "\"", "a", "a ", "a!", "aa", "ä", "\u{10ffff}"];
        let strings = strings.map(str::to_owned);
        check(&strings);
        let pairs: Vec<_> =
            strings.iter().flat_map(|a| strings.iter().map(|b| (a.clone(), b.clone()))).collect();
        check(&pairs);
        let nested: Vec<_> = pairs
            .iter()
            .flat_map(|pair| [-1, 1].map(|number| (pair.clone(), number, true, 'x')))
            .collect();
        check(&nested);
        check(&[("a".to_owned(), 5_u8, 'x'), ("a".to_owned(), 5, 'y'), ("a-".to_owned(), 4, 'x')]);
    }

    #[test]
    fn a_text_that_no_key_has_is_refused() {
        for text in ["", "1", "01", "0001", "256", "-01", "+01", "00 "] {
            assert_eq!(u8::from_text(text), None, "{text:?}");
        }
        for text in ["-1", "-128", "-200", "128", "--1"] {
            assert_eq!(i8::from_text(text), None, "{text:?}");
        }
        for text in ["a", "a b c", "a!", "a! b", "a!C b", "a!  b", "\0 b"] {
            assert_eq!(<(String, String)>::from_text(text), None, "{text:?}");
        }
        assert_eq!(char::from_text("ab"), None);
    }

    #[test]
    fn the_texts_of_keys_are_stable() {
        assert_eq!(17_u32.to_text(), "0000000017");
        assert_eq!((-5_i8).to_text(), "-123");
        assert_eq!(("team one".to_owned(), 5_u8).to_text(), "team!Aone 005");
    }
}
