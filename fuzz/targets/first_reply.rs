//! A broker's first packet. The first byte of the input chooses the client's version.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_fuzz::logic::mqtt::{
    Connack, Decoded, FirstReply, FixedHeader, Version, decode_first_reply, packet_length,
};
use tidegate_fuzz::{BYTES_MAX, check_prefixes};

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(choice % 3)];
    check_prefixes(bytes, |prefix| {
        decode_first_reply(prefix, version, BYTES_MAX)
    });
    if let Ok(Decoded::Complete { value, consumed }) = decode_first_reply(bytes, version, BYTES_MAX)
    {
        let framed = packet_length(bytes).map(Decoded::value);
        assert_eq!(framed, Ok(Some(consumed)));
        if let FirstReply::Connack(connack) = value {
            check_identity(&connack, &bytes[..consumed]);
        }
    }
});

fn check_identity(connack: &Connack<'_>, packet: &[u8]) {
    let mut again = Vec::new();
    connack
        .encode(&mut again)
        .expect("what was decoded has room");
    let header = FixedHeader::decode(packet)
        .expect("decoded before")
        .value()
        .expect("complete");
    let one_form = match connack.version {
        Version::V31 => false,
        Version::V311 => header.is_minimal(),
        // The refusal of a 3.1.1 broker has no properties.
        Version::V5 => header.remaining_length > 2,
    };
    if one_form {
        assert_eq!(again, packet);
    }
    let decoded = decode_first_reply(&again, connack.version, BYTES_MAX).map(Decoded::value);
    assert_eq!(decoded, Ok(Some(FirstReply::Connack(*connack))));
    let mut properties = Vec::new();
    for property in connack.properties.iter() {
        property
            .write(&mut properties)
            .expect("what was decoded has room");
    }
    assert_eq!(properties, connack.properties.as_bytes());
}
