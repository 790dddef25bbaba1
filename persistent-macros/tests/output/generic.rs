// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.

impl<T: Payload, const N: usize> Stack<T, N>
where
    Vec<T>: Debug,
{
    pub fn push(&mut self, items: [T; N]) {}
    pub fn swap(&mut self, other: Self) -> [u8; Self::SIZE] {}
}
#[doc = "The messages of a `Stack`, one variant per method."]
#[derive(:: core :: fmt :: Debug)]
pub enum StackMessage<T: Payload, const N: usize>
where
    Vec<T>: Debug,
{
    #[doc = "Calls `Stack::push`."]
    Push {
        #[doc = "The argument `items`."]
        items: [T; N],
    },
    #[doc = "Calls `Stack::swap`."]
    Swap {
        #[doc = "The argument `other`."]
        other: Stack<T, N>,
    },
    #[doc(hidden)]
    __Unused(::persistent_runtime::__private::Unused<(T,)>),
}
#[automatically_derived]
impl<T: Payload, const N: usize> ::persistent_runtime::__private::serde::Serialize
    for StackMessage<T, N>
where
    Vec<T>: Debug,
{
    fn serialize<__S: ::persistent_runtime::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        match *self {
            StackMessage::Push { items: ref field0 } => {
                let mut content =
                    ::persistent_runtime::__private::serde::Serializer::serialize_struct_variant(
                        serializer,
                        "StackMessage",
                        0,
                        "Push",
                        1,
                    )?;
                ::persistent_runtime::__private::write_argument::<[T; N], _>(
                    &mut content,
                    "items",
                    field0,
                )?;
                ::persistent_runtime::__private::serde::ser::SerializeStructVariant::end(content)
            }
            StackMessage::Swap { other: ref field0 } => {
                let mut content =
                    ::persistent_runtime::__private::serde::Serializer::serialize_struct_variant(
                        serializer,
                        "StackMessage",
                        1,
                        "Swap",
                        1,
                    )?;
                ::persistent_runtime::__private::write_argument::<Stack<T, N>, _>(
                    &mut content,
                    "other",
                    field0,
                )?;
                ::persistent_runtime::__private::serde::ser::SerializeStructVariant::end(content)
            }
            StackMessage::__Unused(ref unused) => unused.absurd(),
        }
    }
}
#[automatically_derived]
impl<T: Payload, const N: usize> ::persistent_runtime::__private::MessageEnum for StackMessage<T, N>
where
    Vec<T>: Debug,
{
    const NAME: &'static str = "StackMessage";
    const VARIANTS: &'static [&'static str] = &["Push", "Swap"];
    fn shape(tag: &str) -> ::core::option::Option<::persistent_runtime::__private::Shape<Self>> {
        match tag {
            "Push" => ::core::option::Option::Some(
                ::persistent_runtime::__private::Shape::Arguments(&["items"], &[]),
            ),
            "Swap" => ::core::option::Option::Some(
                ::persistent_runtime::__private::Shape::Arguments(&["other"], &[]),
            ),
            _ => ::core::option::Option::None,
        }
    }
    fn read<'de, __A: ::persistent_runtime::__private::Arguments<'de>>(
        tag: &str,
        mut source: __A,
    ) -> ::core::result::Result<Self, __A::Error> {
        match tag {
            "Push" => {
                let mut field0 = ::core::option::Option::None;
                loop {
                    match ::persistent_runtime::__private::Arguments::next(&mut source)? {
                        ::core::option::Option::Some(0) => {
                            ::persistent_runtime::__private::Arguments::read::<[T; N]>(
                                &mut source,
                                &mut field0,
                            )?
                        }
                        _ => break,
                    }
                }
                ::core::result::Result::Ok(StackMessage::Push {
                    items: ::persistent_runtime::__private::Arguments::take::<[T; N]>(
                        &source, "items", field0,
                    )?,
                })
            }
            "Swap" => {
                let mut field0 = ::core::option::Option::None;
                loop {
                    match ::persistent_runtime::__private::Arguments::next(&mut source)? {
                        ::core::option::Option::Some(0) => {
                            ::persistent_runtime::__private::Arguments::read::<Stack<T, N>>(
                                &mut source,
                                &mut field0,
                            )?
                        }
                        _ => break,
                    }
                }
                ::core::result::Result::Ok(StackMessage::Swap {
                    other: ::persistent_runtime::__private::Arguments::take::<Stack<T, N>>(
                        &source, "other", field0,
                    )?,
                })
            }
            _ => ::core::result::Result::Err(::persistent_runtime::__private::unknown::<Self, _>(
                tag,
            )),
        }
    }
}
#[automatically_derived]
impl<'de, T: Payload, const N: usize> ::persistent_runtime::__private::serde::Deserialize<'de>
    for StackMessage<T, N>
where
    Vec<T>: Debug,
{
    fn deserialize<__D: ::persistent_runtime::__private::serde::Deserializer<'de>>(
        deserializer: __D,
    ) -> ::core::result::Result<Self, __D::Error> {
        ::persistent_runtime::__private::read_message(deserializer)
    }
}
#[doc = "A client of one `Stack`. Cloning is cheap."]
pub struct StackClient<T: Payload, const N: usize>
where
    Vec<T>: Debug,
{
    handle: ::persistent_runtime::__private::Handle<Stack<T, N>>,
}
impl<T: Payload, const N: usize> StackClient<T, N>
where
    Vec<T>: Debug,
{
    #[doc = "Calls `Stack::push`."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if no reply arrives."]
    pub async fn push(
        &self,
        items: [T; N],
    ) -> ::core::result::Result<(), ::persistent_runtime::CallError> {
        self.handle.call(StackMessage::Push { items }).await
    }
    #[doc = "Calls `Stack::swap`."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if no reply arrives."]
    pub async fn swap(
        &self,
        other: Stack<T, N>,
    ) -> ::core::result::Result<[u8; <Stack<T, N>>::SIZE], ::persistent_runtime::CallError> {
        ::persistent_runtime::__private::assert_payload::<[u8; <Stack<T, N>>::SIZE]>();
        self.handle.call(StackMessage::Swap { other }).await
    }
}
#[automatically_derived]
impl<T: Payload, const N: usize> ::core::clone::Clone for StackClient<T, N>
where
    Vec<T>: Debug,
{
    fn clone(&self) -> Self {
        Self { handle: ::core::clone::Clone::clone(&self.handle) }
    }
}
#[automatically_derived]
impl<T: Payload, const N: usize> ::core::fmt::Debug for StackClient<T, N>
where
    Vec<T>: Debug,
{
    fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        formatter.debug_tuple("StackClient").field(&self.handle).finish()
    }
}
#[automatically_derived]
impl<T: Payload, const N: usize> ::persistent_runtime::Client<Stack<T, N>> for StackClient<T, N>
where
    Vec<T>: Debug,
{
    fn from_handle(handle: ::persistent_runtime::__private::Handle<Stack<T, N>>) -> Self {
        Self { handle }
    }
    fn handle(&self) -> &::persistent_runtime::__private::Handle<Stack<T, N>> {
        &self.handle
    }
}
#[automatically_derived]
impl<T: Payload, const N: usize> ::persistent_runtime::Server for Stack<T, N>
where
    Vec<T>: Debug,
{
    type Message = StackMessage<T, N>;
    type Client = StackClient<T, N>;
    type Key = ::core::primitive::str;
    const NAME: &'static str = "stack";
    const VERSION: u32 = 1;
    fn options() -> ::persistent_runtime::Options {
        ::persistent_runtime::Options::new()
    }
    type Init = ();
    async fn init(
        (): Self::Init,
        context: &::persistent_runtime::Context<Self>,
    ) -> ::core::result::Result<Self, ::persistent_runtime::__private::String> {
        ::core::result::Result::Ok(::persistent_runtime::__private::default_state::<Stack<T, N>>())
    }
    fn method(message: &Self::Message) -> &'static ::persistent_runtime::__private::Method {
        match *message {
            StackMessage::Push { .. } => &::persistent_runtime::__private::Method {
                name: "push",
                is_read: false,
                is_async: false,
                is_info: false,
            },
            StackMessage::Swap { .. } => &::persistent_runtime::__private::Method {
                name: "swap",
                is_read: false,
                is_async: false,
                is_info: false,
            },
            StackMessage::__Unused(ref unused) => unused.absurd(),
        }
    }
    fn handle(
        &mut self,
        message: Self::Message,
        context: &::persistent_runtime::Context<Self>,
        reply: ::persistent_runtime::__private::ReplySlot<'_>,
    ) {
        match message {
            StackMessage::Push { items } => reply.set(Self::push(self, items)),
            StackMessage::Swap { other } => reply.set(Self::swap(self, other)),
            StackMessage::__Unused(ref unused) => unused.absurd(),
        }
    }
    fn encode(
        &self,
        buffer: &mut ::persistent_runtime::__private::Vec<u8>,
    ) -> ::core::result::Result<(), ::persistent_runtime::EncodeError> {
        ::persistent_runtime::__private::encode::<Stack<T, N>>(self, buffer)
    }
    fn check(bytes: &[u8]) -> ::core::result::Result<(), ::persistent_runtime::EncodeError> {
        ::persistent_runtime::__private::check(
            bytes,
            ::persistent_runtime::__private::decode::<Stack<T, N>>,
            ::persistent_runtime::__private::encode::<Stack<T, N>>,
        )
    }
    fn decode(
        version: u32,
        bytes: &[u8],
        context: &::persistent_runtime::Context<Self>,
    ) -> ::core::result::Result<Self, ::persistent_runtime::DecodeError> {
        match version {
            1 => ::persistent_runtime::__private::decode::<Stack<T, N>>(bytes),
            stored => ::core::result::Result::Err(::persistent_runtime::DecodeError::Version {
                stored,
                current: 1,
            }),
        }
    }
}
