use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator behind every named stream: ChaCha with 8 rounds, whose numbers are the same on every platform.
pub type Stream = ChaCha8Rng;

/// The random stream called `name` under `seed`, such as `"init"`.
///
/// Streams of different names or seeds are independent, and each is a pure function of both. The 256-bit ChaCha key is four
/// little-endian words: the seed, the 64-bit FNV-1a hash of the name's UTF-8 bytes, the index and a 0 (here) or a 1 (in
/// [`stream_at`]). This will not change: recorded seeds keep their meaning.
pub fn stream(seed: u64, name: &str) -> Stream {
    keyed([seed, fnv1a(name), 0, 0])
}

/// The random stream called `name` that belongs to one `index`, such as a step or an epoch, under `seed`.
///
/// What is drawn at a step needs no saved generator state: a resumed run asks for the same index and gets the same numbers.
pub fn stream_at(seed: u64, name: &str, index: u64) -> Stream {
    keyed([seed, fnv1a(name), index, 1])
}

fn keyed(words: [u64; 4]) -> Stream {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Stream::from_seed(key)
}

fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::Rng;

    use super::*;

    #[test]
    fn the_hash_of_names_is_fnv_1a() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn seed_name_and_index_each_make_another_stream() {
        let mut first = HashSet::new();
        for seed in 0..10 {
            for name in ["init", "order", "dropout", "coalition"] {
                assert!(first.insert(stream(seed, name).next_u64()));
                assert!((0..10).all(|index| first.insert(stream_at(seed, name, index).next_u64())));
            }
        }
    }

    #[test]
    fn streams_never_change() {
        // The first words of the ChaCha8 block of each key, by an independent implementation of the cipher.
        let words = |mut stream: Stream| [stream.next_u64(), stream.next_u64()];
        assert_eq!(
            words(stream(0, "init")),
            [0xd2c3_fc15_334d_f1ab, 0xad46_8152_a612_6ecd]
        );
        assert_eq!(
            words(stream_at(7, "coalition", 3)),
            [0xb72b_56ec_cc6e_85f1, 0x0169_3eb8_57a0_c2db]
        );
    }
}
