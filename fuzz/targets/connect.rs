//! CONNECT: what is decoded encodes to the same bytes, wherever the specification leaves no choice.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_fuzz::logic::mqtt::{
    Connect, Decoded, FirstReply, FixedHeader, Properties, Version, decode_connect,
    decode_first_reply, encode_connect,
};
use tidegate_fuzz::{BYTES_MAX, check_prefixes};

fuzz_target!(|bytes: &[u8]| {
    check_prefixes(bytes, |prefix| decode_connect(prefix, BYTES_MAX));
    match decode_connect(bytes, BYTES_MAX) {
        Ok(Decoded::Complete { value, consumed }) => check_identity(&value, &bytes[..consumed]),
        Ok(Decoded::Incomplete { .. }) => {}
        Err(error) => {
            let _ = error.close_reason();
            // An answer is a CONNACK that refuses, in one of the two formats.
            if let Some(answer) = error.answer() {
                let version = if answer.len() == 4 {
                    Version::V311
                } else {
                    Version::V5
                };
                match decode_first_reply(answer, version, BYTES_MAX) {
                    Ok(Decoded::Complete {
                        value: FirstReply::Connack(connack),
                        consumed,
                    }) => {
                        assert!(consumed == answer.len() && !connack.is_accepted());
                    }
                    other => panic!("{error:?} answers {other:?}"),
                }
            }
        }
    }
});

fn check_identity(connect: &Connect<'_>, packet: &[u8]) {
    let mut again = Vec::new();
    encode_connect(connect, &mut again).expect("what was decoded has room");
    let header = FixedHeader::decode(packet)
        .expect("decoded before")
        .value()
        .expect("complete");
    let one_form = match connect.version {
        Version::V31 => false,
        Version::V311 => header.is_minimal(),
        Version::V5 => true,
    };
    if one_form {
        assert_eq!(again, packet);
    }
    let decoded = decode_connect(&again, BYTES_MAX).map(Decoded::value);
    assert_eq!(decoded, Ok(Some(*connect)));
    check_properties(&connect.properties);
    if let Some(will) = &connect.will {
        check_properties(&will.properties);
    }
}

fn check_properties(properties: &Properties<'_>) {
    let mut again = Vec::new();
    for property in properties.iter() {
        property
            .write(&mut again)
            .expect("what was decoded has room");
    }
    assert_eq!(again, properties.as_bytes());
}
