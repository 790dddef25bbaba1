// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.
//
// `serialize_with` and `deserialize_with` look redundant, and their strings keep the
// spaces of the tokens. They are there for the compile errors: serde's derive needs the
// bounds of a field's type in several places and would report a missing one in each.
// These functions require each bound once, and the type in the string has the span of
// the user's type, so that the error underlines it.

impl<T: Payload, const N: usize> Stack<T, N>
where
    Vec<T>: Debug,
{
    pub fn push(&mut self, items: [T; N]) {}
    pub fn swap(&mut self, other: Self) -> [u8; Self::SIZE] {}
}
#[doc = "The messages of a `Stack`, one variant per method."]
#[derive(
    :: core :: fmt :: Debug,
    :: persistent_runtime :: __private :: serde :: Serialize,
    :: persistent_runtime :: __private :: serde :: Deserialize,
)]
#[serde(crate = "::persistent_runtime::__private::serde", bound(serialize = "", deserialize = ""))]
pub enum StackMessage<T: Payload, const N: usize>
where
    Vec<T>: Debug,
{
    #[doc = "Calls `Stack::push`."]
    Push {
        #[doc = "The argument `items`."]
        #[serde(
            serialize_with = "::persistent_runtime::__private::serialize::<[T ; N], _>",
            deserialize_with = "::persistent_runtime::__private::deserialize::<[T ; N], _>"
        )]
        items: [T; N],
    },
    #[doc = "Calls `Stack::swap`."]
    Swap {
        #[doc = "The argument `other`."]
        #[serde(
            serialize_with = "::persistent_runtime::__private::serialize::<Stack < T , N >, _>",
            deserialize_with = "::persistent_runtime::__private::deserialize::<Stack < T , N >, _>"
        )]
        other: Stack<T, N>,
    },
    #[doc(hidden)]
    #[serde(skip)]
    __Unused(::persistent_runtime::__private::Unused<(T,)>),
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
    type Init = ();
    const NAME: &'static str = "Stack";
    const VERSION: u32 = 1;
    fn options() -> ::persistent_runtime::Options {
        ::persistent_runtime::Options::new()
    }
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
            },
            StackMessage::Swap { .. } => &::persistent_runtime::__private::Method {
                name: "swap",
                is_read: false,
                is_async: false,
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
