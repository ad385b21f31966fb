use super::*;
use kiln_schemas::model::ExecutorFlags;

/// A key that differs from those of other names.
pub(crate) fn some_key(name: &str) -> ContentKey {
    ContentKey(blake3::hash(name.as_bytes()).to_hex().to_string())
}

/// Owned inputs, to change one at a time.
#[derive(Clone, Default)]
struct Inputs {
    sources: Vec<u8>,
    dockerfile: Vec<u8>,
    target: Option<String>,
    build_args: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, String>,
    env: Vec<EnvEntry>,
    flags: ExecutorFlags,
    platform: Option<Platform>,
    required: BTreeMap<String, ContentKey>,
    bases: BTreeMap<String, BaseDigest>,
}

impl Inputs {
    fn key(&self) -> ContentKey {
        key(&ContentInputs {
            sources: &self.sources,
            dockerfile: &self.dockerfile,
            target: self.target.as_deref(),
            build_args: &self.build_args,
            labels: &self.labels,
            env: &self.env,
            flags: &self.flags,
            platform: self.platform.as_ref(),
            required: &self.required,
            bases: &self.bases,
        })
    }

    fn with(change: impl FnOnce(&mut Self)) -> ContentKey {
        let mut inputs = Self::default();
        change(&mut inputs);
        inputs.key()
    }
}

fn digest(digit: char) -> ImageDigest {
    ImageDigest::parse(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
}

#[test]
fn everything_that_decides_the_bytes_changes_the_key() {
    let value = |text: &str| Some(text.to_owned());
    let keys = [
        Inputs::with(|_| {}),
        Inputs::with(|i| i.sources = b"sources".to_vec()),
        Inputs::with(|i| i.dockerfile = b"FROM scratch".to_vec()),
        Inputs::with(|i| i.target = value("")),
        Inputs::with(|i| i.target = value("build")),
        Inputs::with(|i| {
            i.build_args.insert("A".into(), value("1"));
        }),
        Inputs::with(|i| {
            i.build_args.insert("A".into(), value(""));
        }),
        Inputs::with(|i| {
            i.build_args.insert("A".into(), None);
        }),
        Inputs::with(|i| {
            i.build_args.insert("A".into(), None);
            i.env.push(EnvEntry::Value {
                name: "A".into(),
                value: "1".into(),
            });
        }),
        Inputs::with(|i| {
            i.labels.insert("A".into(), "1".into());
        }),
        Inputs::with(|i| i.flags.reproducible = true),
        Inputs::with(|i| i.flags.single_snapshot = true),
        Inputs::with(|i| i.flags.snapshot_mode = value("redo")),
        Inputs::with(|i| i.flags.use_new_run = true),
        Inputs::with(|i| i.flags.whitelist_var_run = Some(false)),
        Inputs::with(|i| i.flags.whitelist_var_run = Some(true)),
        Inputs::with(|i| i.flags.ignore_paths.push("/tmp".into())),
        Inputs::with(|i| i.flags.extra.push("--compression=zstd".into())),
        Inputs::with(|i| i.platform = Platform::parse("linux/arm64")),
        Inputs::with(|i| {
            i.required.insert("BASE".into(), some_key("a"));
        }),
        Inputs::with(|i| {
            i.required.insert("BASE".into(), some_key("b"));
        }),
        Inputs::with(|i| {
            i.bases.insert("alpine".into(), BaseDigest::Unknown);
        }),
        Inputs::with(|i| {
            i.bases
                .insert("alpine".into(), BaseDigest::Known(digest('1')));
        }),
        Inputs::with(|i| {
            i.bases
                .insert("alpine".into(), BaseDigest::Known(digest('2')));
        }),
    ];
    for (i, one) in keys.iter().enumerate() {
        for (j, other) in keys.iter().enumerate().skip(i + 1) {
            assert_ne!(one, other, "cases {i} and {j}");
        }
    }
}

#[test]
fn where_the_image_goes_and_how_it_gets_there_does_not() {
    let plain = Inputs::with(|_| {});
    let other = Inputs::with(|i| {
        i.flags.destinations.push("r.example/second:1".into());
        i.flags.push_retry = Some("3".into());
        i.flags.insecure = true;
        i.flags.verbosity = Some("debug".into());
        i.flags
            .mirrors
            .insert("index.docker.io".into(), vec!["mirror.gcr.io".into()]);
        i.env.push(EnvEntry::Value {
            name: "HTTPS_PROXY".into(),
            value: "http://proxy".into(),
        });
    });
    assert_eq!(plain, other);
}

#[test]
fn text_cannot_move_from_one_field_into_the_next() {
    let one = Inputs::with(|i| {
        i.build_args.insert("A".into(), Some("1labelB".into()));
    });
    let other = Inputs::with(|i| {
        i.build_args.insert("A".into(), Some("1".into()));
        i.labels.insert("B".into(), String::new());
    });
    assert_ne!(one, other);
}

#[test]
fn the_tag_is_half_of_the_key() {
    let key = some_key("a");
    assert_eq!(key.hex().len(), 64);
    assert_eq!(key.tag().len(), 32);
    assert!(key.hex().starts_with(&key.tag()));
}
