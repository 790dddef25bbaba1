//! Depth, lengths, paths and texts of errors, and borrowed data.

use super::*;

#[test]
fn texts_and_bytes_are_borrowed() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Borrowed<'a> {
        text: &'a str,
        bytes: &'a [u8],
        list: Vec<&'a str>,
        map: BTreeMap<&'a str, Option<&'a str>>,
    }

    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Bytes<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    #[derive(Serialize)]
    struct Owned {
        text: &'static str,
        bytes: Bytes<'static>,
        list: Vec<&'static str>,
        map: BTreeMap<&'static str, Option<&'static str>>,
    }

    let map = BTreeMap::from([("k", Some("v")), ("l", None)]);
    let value = Owned { text: "text", bytes: Bytes(b"bytes"), list: vec!["a", "b"], map };
    let mut bytes = Vec::new();
    encode(&value, &mut bytes).unwrap();
    let ours = Borrowed::deserialize(&mut Decoder::new(&bytes)).unwrap();
    let theirs: Borrowed<'_> = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(ours, theirs);
    assert!(bytes.as_ptr_range().contains(&ours.text.as_ptr()));
}

/// Regression: visitors reserved memory for any length that the bytes named, e.g. four billion.
#[test]
fn a_hostile_length_reserves_no_more_than_there_are_bytes() {
    #[derive(Debug)]
    struct Hint(Option<usize>);

    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Hints;

            impl<'de> Visitor<'de> for Hints {
                type Value = Hint;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a list or map")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Hint, A::Error> {
                    let hint = list.size_hint();
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    Ok(Hint(hint))
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Hint, A::Error> {
                    let hint = map.size_hint();
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    Ok(Hint(hint))
                }
            }

            deserializer.deserialize_any(Hints)
        }
    }

    for (bytes, hint) in [(&b"\x93abc"[..], 3), (b"\x82aabb", 2), (b"\x90", 0)] {
        assert_eq!(decode::<Hint>(bytes).unwrap().0, Some(hint));
    }
    for marker in [0xdd, 0xdf] {
        let bytes = [marker, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let mut decoder = Decoder::new(&bytes);
        let mut items = Items::new(&mut decoder, None);
        let hint = SeqAccess::size_hint(&&mut items);
        assert_eq!(hint, Some(0), "the head is not read yet");
        assert!(decode::<Hint>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert!(decode::<BTreeMap<u8, u64>>(&bytes).is_err());
    }
}

/// Each kind of value in as many lists, maps and enums as are allowed, and in one more.
#[test]
fn the_limit_is_that_of_the_encoder_for_all_types() {
    #[derive(Debug, Deserialize)]
    enum Chain {
        End,
        #[expect(dead_code, reason = "decoded only")]
        Link(Box<Chain>),
        #[expect(dead_code, reason = "decoded only")]
        List(Vec<Chain>),
        #[expect(dead_code, reason = "decoded only")]
        Map {
            a: Box<Chain>,
        },
    }

    let mut random = Random(5);
    let levels: [(&[u8], usize); 3] =
        [(b"\x81\xa4Link", 1), (b"\x81\xa4List\x91", 2), (b"\x81\xa3Map\x81\xa1a", 2)];
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..300 {
        let (mut bytes, mut depth) = (Vec::new(), 0);
        let limit = DEPTH - 4 + random.below(8);
        while depth < limit {
            let (link, more) = levels[random.below(3)];
            bytes.extend(link);
            depth += more;
        }
        bytes.extend(b"\xa3End");
        assert_eq!(compare::<Chain>(&bytes) == Outcome::Accepted, depth <= DEPTH);
        compare::<IgnoredAny>(&bytes);
        compare::<Any>(&bytes);
        match compare::<Untagged>(&[b"\x91", &bytes[..]].concat()) {
            Outcome::Accepted => accepted += 1,
            Outcome::Rejected => rejected += 1,
        }
    }
    assert!(accepted > 20 && rejected > 20, "{accepted} {rejected}");
    // Values side by side are not nested.
    let wide = [vec![0xdc, 0x03, 0xe8], b"\x81\xa4List\x91\xa3End".repeat(1000)].concat();
    assert_eq!(compare::<Vec<Chain>>(&wide), Outcome::Accepted);
    assert_eq!(compare::<IgnoredAny>(&wide), Outcome::Accepted);
}

/// Such a type overflowed the stack on any value but nil.
#[test]
fn an_option_of_itself_is_rejected() {
    #[derive(Debug, Deserialize)]
    struct Endless(Option<Box<Endless>>);

    assert!(decode::<Endless>(b"\xc0").unwrap().0.is_none());
    let error = decode::<Endless>(b"\x01").unwrap_err();
    assert!(error.to_string().contains("deeper than 256 levels"), "{error}");
    let many = vec![Some(Some(1)); 1000];
    let mut bytes = Vec::new();
    encode(&many, &mut bytes).unwrap();
    assert_eq!(decode::<Vec<Option<Option<i32>>>>(&bytes).unwrap(), many);
}

#[test]
fn the_path_of_an_error_is_that_of_serde_path_to_error() {
    fn path<T: DeserializeOwned + Debug>(bytes: &[u8]) -> String {
        compare::<T>(bytes);
        match decode::<T>(bytes).unwrap_err() {
            DecodeError::Malformed { field, .. } => field,
            error => panic!("{error}"),
        }
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "decoded only")]
    struct State {
        inventory: Vec<Item>,
        owners: BTreeMap<u32, Shape>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "decoded only")]
    struct Item {
        name: String,
    }

    let with = |inventory: &[u8], owners: &[u8]| {
        [b"\x82\xa9inventory", inventory, b"\xa6owners", owners].concat()
    };
    let path_of = |inventory: &[u8], owners: &[u8]| path::<State>(&with(inventory, owners));
    assert_eq!(path::<State>(b""), ".");
    assert_eq!(path::<State>(b"\x05"), ".");
    assert_eq!(path::<State>(b"\x80"), ".");
    assert_eq!(path_of(b"\x05", b"\x80"), "inventory");
    assert_eq!(path_of(b"\x92\x81\xa4name\xa1a\x81\xa4name\x05", b"\x80"), "inventory[1].name");
    assert_eq!(path_of(b"\x92\x91\xa1a\x91\x05", b"\x80"), "inventory[1][0]");
    assert_eq!(path_of(b"\x92\x81\xa4name\xa1a\x80", b"\x80"), "inventory[1]", "missing");
    assert_eq!(path_of(b"\x91\x82\xa4name\xa1a\xa4name\xa1a", b"\x80"), "inventory[0]", "twice");
    assert_eq!(path_of(b"\x91\x82\xa4name\xa1a\xa4more\xd9", b"\x80"), "inventory[0].more");
    assert_eq!(path_of(b"\x91\x92\xa1a\xa1b", b"\x80"), "inventory[0]", "one too many");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa5Tuple\x92\x01\xa0"), "owners.7.Tuple[1]");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa6Struct\x81\xa1b\x05"), "owners.7.Struct.b");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa7Newtype\x05"), "owners.7.Newtype");
    assert_eq!(path_of(b"\x90", b"\x81\x07\xa7Newtype"), "owners.7.Newtype", "no content");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa4Unit\x05"), "owners.7.Unit");
    assert_eq!(path_of(b"\x90", b"\x81\x07\xa4None"), "owners.7", "no variant");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x82\xa4Unit\xc0\xa4Unit\xc0"), "owners.7");
    assert_eq!(path_of(b"\x90", b"\x81\xff\xa4Unit"), "owners.-1", "the key itself");
    assert_eq!(path_of(b"\x90", b"\x81\xc0\xa4Unit"), "owners.?");
    // Where `serde_path_to_error` writes `?`.
    assert_eq!(path::<BTreeMap<Option<String>, u8>>(b"\x81\xa1a\xa1b"), "a");
}

/// The path of an error that a function has wrapped in its own one.
#[test]
fn a_wrapped_error_has_the_path_of_its_cause() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "decoded only")]
    struct Wrapping {
        #[serde(deserialize_with = "wrapped")]
        list: Vec<Strict>,
    }

    fn wrapped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Strict>, D::Error> {
        Vec::deserialize(deserializer)
            .map_err(|error| serde::de::Error::custom(format!("the list is bad: {error}")))
    }

    let bytes = b"\x81\xa4list\x91\x81\xa1a\xa0";
    compare::<Wrapping>(bytes);
    let error = decode::<Wrapping>(bytes).unwrap_err();
    assert!(error.to_string().starts_with("at field `list[0].a`: the list is bad: "), "{error}");
}

#[test]
fn a_visitor_that_recovers_from_errors_causes_no_panic_and_no_wrong_path() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        value(&mut random, &mut bytes, 4);
        mutate(&mut random, &mut bytes);
        let _ = decode::<[Recovers; 3]>(&bytes);
        let _ = decode::<(Recovers, Fields)>(&bytes);
    }
    let bytes = b"\x92\x81\xa6number\xa1a\x81\xa4text\x05";
    let Err(DecodeError::Malformed { field, .. }) = decode::<(Recovers, Fields)>(bytes) else {
        panic!("the text is a number")
    };
    assert_eq!(field, "[1].text");
}

/// The texts name what was found and what was expected.
#[test]
fn an_error_says_what_was_wrong() {
    fn error<T: DeserializeOwned>(bytes: &[u8]) -> String {
        decode::<T>(bytes).err().expect("it is malformed").to_string()
    }

    assert_eq!(error::<u64>(b"\xa1a"), "invalid type: string \"a\", expected u64");
    assert_eq!(error::<u8>(b"\xcd\x01\x00"), "invalid value: integer `256`, expected u8");
    assert_eq!(error::<String>(b"\xa1\xff").split(": ").next(), Some("invalid text"));
    assert_eq!(error::<String>(b"\xa2a"), "the bytes end within the value");
    assert_eq!(error::<Strict>(b"\xc0"), "invalid type: unit value, expected struct Strict");
    assert_eq!(error::<(u8,)>(b"\x92\x01\x02"), "invalid length 2, expected 1");
    assert_eq!(error::<bool>(b"\xc1\xc0"), "invalid type: Option value, expected a boolean");
    assert!(error::<Shape>(b"\x82\xa4Unit\xc0\xa4Unit\xc0").contains("a map with one entry"));
    assert!(error::<Shape>(b"\xa5Tuple").ends_with("unit variant, expected tuple variant"));
}
