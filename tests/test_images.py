"""Readers of images with captions or questions: what is read, what is refused, and features that are kept."""

import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin
from PIL import features as features_of_pillow

from attnlab.config.captioning import CaptionHub, Flickr8k
from attnlab.config.errors import UserError
from attnlab.config.visual_qa import EasyVqa, ImageQuestionHub
from attnlab.data.captioning.load import load as load_captions
from attnlab.data.images import features
from attnlab.data.images.pixels import LARGEST, as_bytes, pixels, read_image
from attnlab.data.visual_qa.load import load as load_questions
from attnlab.system.cache_directory import VARIABLE


def encoded(value: int, size: tuple[int, int] = (16, 16), format: str = "JPEG", mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, value if mode != "RGB" else (value,) * 3).save(content, format)
    return content.getvalue()


@pytest.fixture
def flickr(tmp_path) -> Path:
    """A made-up Flickr8k in the layout of the packed files."""
    images = [encoded(40 * n) for n in range(6)]
    names = np.array([f"{n}.jpg" for n in range(6)])
    offsets = np.cumsum([0, *map(len, images)])
    (tmp_path / "flickr8k").mkdir()
    np.savez(tmp_path / "flickr8k/images_128.npz", jpeg=as_bytes(b"".join(images)), offsets=offsets, names=names)
    splits = ["train", "train", "val", "test", "extra", "test"]
    rows = [{"image": f"{n}.jpg", "split": split, "captions": [f"Image {n} .", "A thing ."]}
            for n, split in enumerate(splits)]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "flickr8k/captions.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return tmp_path


def test_flickr_is_read_by_split_and_images_stay_encoded(flickr):
    splits = load_captions(Flickr8k(), flickr)
    assert [e.name for e in splits.train] == ["0.jpg", "1.jpg"]
    assert [e.name for e in splits.dev] == ["2.jpg"]
    assert [e.captions for e in splits.test["test"]] == [("Image 3 .", "A thing ."), ("Image 5 .", "A thing .")]
    image = pixels(splits.test["test"][0].image, 8)
    assert image.shape == (8, 8, 3)
    assert abs(int(image.mean()) - 120) < 3


def test_the_original_files_of_flickr_give_the_same(flickr, tmp_path):
    folder = tmp_path / "Flicker8k_Dataset"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.jpg").write_bytes(encoded(40 * n))
    texts = [f"{n}.jpg#{k}\t{text}\n" for n in range(6) for k, text in enumerate((f"Image {n} .", "A thing ."))]
    (tmp_path / "Flickr8k.token.txt").write_text("".join(texts))
    lists = {"train": "0.jpg\n1.jpg\n", "dev": "2.jpg\n", "test": "3.jpg\n5.jpg\n"}
    for split, names in lists.items():
        (tmp_path / f"{split}.txt").write_text(names)
    config = Flickr8k(
        images="Flicker8k_Dataset", captions="Flickr8k.token.txt", split_files={s: f"{s}.txt" for s in lists}
    )
    assert load_captions(config, tmp_path).fingerprint() == load_captions(Flickr8k(), flickr).fingerprint()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"captions\.jsonl:1: expected JSON"),
        ('{"image": "0.jpg", "split": "train", "captions": []}', r"captions\.jsonl:1: the image has no caption"),
        ('{"image": "0.jpg", "split": "train", "captions": "a"}', r"captions\.jsonl:1: captions must be"),
        ('{"image": "0.jpg", "split": null, "captions": ["a"]}', r"captions\.jsonl:1: captions must be .* split"),
        (
            '{"image": "0.jpg", "split": "train", "captions": ["a", " "]}',
            r"captions\.jsonl:1: caption 2 of 2 has no word",
        ),
        ('{"image": "0.jpg", "split": "train", "captions": ["..."]}', r"captions\.jsonl:1: caption 1 of 1 has no word"),
        ('{"image": "0.jpg", "split": "tset", "captions": ["a"]}', r"jsonl:1: unknown split 'tset'.* 'test'\?"),
        ('{"image": "0.jpg", "split": "Train", "captions": ["a"]}', r"jsonl:1: unknown split 'Train'.* 'train'\?"),
        ('{"image": "0.jpg", "split": " val", "captions": ["a"]}', r"jsonl:1: unknown split ' val'.* 'val'\?"),
        ('{"image": "9.jpg", "split": "train", "captions": ["a"]}', r"captions\.jsonl:1: no image 9\.jpg in "),
        ('{"image": "0.jpg", "split": "train", "captions": ["a"]}', "no images of the split dev"),
        ("1.jpg#0\tA thing", "needs task.data.split_files"),
    ],
)
def test_invalid_captions_are_reported_by_file_and_line(flickr, line, message):
    (flickr / "captions.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        load_captions(Flickr8k(captions="captions.jsonl"), flickr)


def test_unused_splits_are_counted(flickr, capsys):
    load_captions(Flickr8k(), flickr)
    assert "ignored 1 image of the split 'extra'" in capsys.readouterr().err
    lines = [json.dumps({"image": f"{n}.jpg", "split": split, "captions": ["a"]})
             for n, split in enumerate(["train", "val", "test", "restval", "restval", "extra"])]  # fmt: skip
    (flickr / "captions.jsonl").write_text("\n".join(lines))
    load_captions(Flickr8k(captions="captions.jsonl"), flickr)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "2 images of the split 'restval'" in lines[0]


@pytest.mark.parametrize("text", ["", "  ", "...", "!\u00a0?"])
def test_an_empty_caption_is_refused_in_the_original_files_too(tmp_path, text):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0.jpg").write_bytes(encoded(0))
    (tmp_path / "tokens.txt").write_text(f"0.jpg#0\tA thing .\n0.jpg#1\t{text}\n")
    (tmp_path / "train.txt").write_text("0.jpg\n")
    config = Flickr8k(
        images="images", captions="tokens.txt", split_files=dict.fromkeys(("train", "dev", "test"), "train.txt")
    )
    with pytest.raises(UserError, match=r"tokens\.txt:2: caption 1 of 1 has no word"):
        load_captions(config, tmp_path)


def test_an_image_in_two_splits_is_reported(flickr, tmp_path, capsys):
    splits = {"0.jpg": "train", "1.jpg": "train", "2.jpg": "val", "3.jpg": "test", "4.jpg": "test"}
    lines = [json.dumps({"image": name, "split": split, "captions": ["a"]}) for name, split in splits.items()]
    (flickr / "images").mkdir()
    for name, value in {"0.jpg": 0, "1.jpg": 50, "2.jpg": 50, "3.jpg": 0, "4.jpg": 90}.items():
        (flickr / "images" / name).write_bytes(encoded(value))
    (flickr / "captions.jsonl").write_text("\n".join(lines))
    load_captions(Flickr8k(images="images", captions="captions.jsonl"), flickr)
    assert capsys.readouterr().err.splitlines() == [
        "attnlab: 1 of 1 images of dev is also in train; 2.jpg of dev is 1.jpg of train",
        "attnlab: 1 of 2 images of test is also in train; 3.jpg of test is 0.jpg of train",
    ]
    (flickr / "captions.jsonl").write_text("\n".join([*lines, lines[1].replace("train", "test")]))  # named twice
    load_captions(Flickr8k(images="images", captions="captions.jsonl"), flickr)
    assert "2 of 3 images of test are also in train; 3.jpg of test" in capsys.readouterr().err
    load_questions(easy_vqa(tmp_path, QUESTIONS), tmp_path)  # test is train again
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("attnlab: 3 of 4 images of test are also in train; image 0 of test is image 0 of train")
    assert len(lines) == 2, "and one in dev"


def test_names_do_not_lead_out_of_the_folder(flickr):
    (flickr / "images").mkdir()
    (flickr / "captions.jsonl").write_text('{"image": "../x.jpg", "split": "train", "captions": ["a"]}\n')
    with pytest.raises(UserError, match="must be a file name"):
        load_captions(Flickr8k(images="images", captions="captions.jsonl"), flickr)


def test_missing_data_are_reported_with_the_expected_files(tmp_path):
    with pytest.raises(UserError, match="needs a data directory"):
        load_captions(Flickr8k(), None)
    with pytest.raises(UserError, match=r"images_128\.npz: no such file"):
        load_captions(Flickr8k(), tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load_questions(EasyVqa(), tmp_path)


def easy_vqa(folder: Path, questions: list[dict], images: int = 4) -> EasyVqa:
    for part in ("train", "test"):
        made = np.stack([np.full((8, 8, 3), n, np.uint8) for n in range(images)])
        np.savez(folder / f"{part}_images.npz", images=made)
        lines = "".join(json.dumps(row) + "\n" for row in questions)
        (folder / f"{part}_questions.jsonl").write_text(lines)
    return EasyVqa(train="train", test="test", dev_images=1)


QUESTIONS = [{"question": f"is it {n}?", "answer": "yes", "image": n % 4} for n in range(8)]


def test_dev_has_images_that_training_has_not(tmp_path):
    splits = load_questions(easy_vqa(tmp_path, QUESTIONS), tmp_path)
    assert {int(example.image[0, 0, 0]) for example in splits.train} == {0, 1, 2}
    assert {int(example.image[0, 0, 0]) for example in splits.dev} == {3}
    assert len(splits.test["test"]) == 8


def test_the_layout_of_the_package_gives_the_same(tmp_path):
    packed = load_questions(easy_vqa(tmp_path, QUESTIONS), tmp_path)
    for part in ("train", "test"):
        (tmp_path / part / "images").mkdir(parents=True)
        for n in range(4):
            (tmp_path / part / "images" / f"{n}.png").write_bytes(encoded(n, (8, 8), "PNG"))
        rows = [[row["question"], row["answer"], row["image"]] for row in QUESTIONS]
        (tmp_path / part / "questions.json").write_text(json.dumps(rows))
    loose = load_questions(EasyVqa(train="train", test="test", dev_images=1), tmp_path)
    for example, other in zip(packed.train, loose.train, strict=True):
        assert (example.question, example.answer) == (other.question, other.answer)
        np.testing.assert_array_equal(pixels(example.image, 8), pixels(other.image, 8))


@pytest.mark.parametrize("index", [4, -1, "0", None])
def test_a_question_without_its_image_is_refused(tmp_path, index):
    config = easy_vqa(tmp_path, [*QUESTIONS[:2], {"question": "what?", "answer": "no", "image": index}])
    with pytest.raises(UserError, match=r"questions\.jsonl:3: no image"):
        load_questions(config, tmp_path)


def test_images_of_any_form_become_rgb_squares(tmp_path):
    for name, content in {
        "gray.png": encoded(9, format="PNG", mode="L"), "alpha.png": encoded(9, format="PNG", mode="RGBA"),
        "wide.gif": encoded(9, (30, 10), "GIF", "P"),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert read_image(tmp_path / name, 12).shape == (12, 12, 3)


RAMP = np.tile(np.linspace(0, 1, 52), (52, 1))
"""Gray levels from black to white, every fifth of 8 bits."""


def saved(values: np.ndarray, format: str = "TIFF", **tags: int) -> np.ndarray:
    content = io.BytesIO()
    named = {"tiffinfo": {getattr(TiffImagePlugin, name): value for name, value in tags.items()}} if tags else {}
    Image.fromarray(values).save(content, format, **named)
    return as_bytes(content.getvalue())


def unsigned(image: np.ndarray) -> np.ndarray:
    """The same file, its whole numbers called unsigned (Pillow writes signed ones alone)."""
    signed, instead = (struct.pack("<HHII", TiffImagePlugin.SAMPLEFORMAT, 3, 1, kind) for kind in (2, 1))
    assert image.tobytes().count(signed) == 1
    return as_bytes(image.tobytes().replace(signed, instead))


@pytest.mark.parametrize(
    "image",
    [
        saved((RAMP * 65535).astype(np.uint16), "PNG"),
        saved((RAMP * 65535).astype(np.uint16), "TIFF"),
        saved((RAMP * 65535).astype(np.uint16), "PPM"),
        saved((RAMP * 255).astype(np.int32)),
        saved((RAMP * 65535).astype(np.int32)),
        saved((RAMP * (2**31 - 1)).astype(np.int32)),
        unsigned(saved((RAMP * (2**32 - 1)).astype(np.uint32).view(np.int32))),
        saved(RAMP.astype(np.float32)),
        saved((RAMP * 255).astype(np.float32)),
        saved((RAMP * 65535).astype(np.float32)),
        saved(((1 - RAMP) * 65535).astype(np.uint16), PHOTOMETRIC_INTERPRETATION=0),
    ],
)
def test_gray_levels_of_any_depth_keep_their_brightness(image):
    expected = np.repeat((RAMP * 255)[..., None], 3, axis=2)
    assert np.abs(pixels(image, 52).astype(float) - expected).max() <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, np.nan]]), "nan"), (np.array([[0, np.inf]]), "inf"), (np.array([[-1.0, 1]]), "from -1 to 1"),
        (np.array([[0, 1.5]]), "to 1.5"), (np.array([[0, 1e6]]), r"to 1e\+06"),
    ],
)  # fmt: skip
def test_gray_levels_without_a_scale_are_refused(values, message):
    with pytest.raises(UserError, match=rf"x\.tif: gray levels .*{message}.* expected 0 to 1, 0 to 255 or 0 to 65,535"):
        pixels(saved(values.astype(np.float32)), 8, "x.tif")
    with pytest.raises(UserError, match="from -5 to 9 in integers"):
        pixels(saved(np.array([[-5, 9]], np.int32)), 8)


CORNERS = np.kron(np.array([[10, 80], [150, 220]], np.uint8), np.ones((32, 32), np.uint8))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_rotated_by_their_exif_orientation(format, orientation):
    if format == "WEBP" and not features_of_pillow.check("webp"):
        pytest.skip("this Pillow has no WebP")
    lying = {1: CORNERS, 2: CORNERS[:, ::-1], 3: CORNERS[::-1, ::-1], 4: CORNERS[::-1], 5: CORNERS.T,
             6: np.rot90(CORNERS), 7: CORNERS[::-1, ::-1].T, 8: np.rot90(CORNERS, -1)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = io.BytesIO()
    Image.fromarray(np.repeat(lying[..., None], 3, axis=2)).save(content, format, exif=exif)
    corners = pixels(as_bytes(content.getvalue()), 64)[16::32, 16::32, 0].astype(int)
    assert np.abs(corners - CORNERS[16::32, 16::32]).max() <= 4


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_there_is_not_turns_nothing(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = io.BytesIO()
    Image.fromarray(CORNERS).save(content, "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(as_bytes(content.getvalue()), 64)[..., 0], CORNERS)


@pytest.mark.parametrize("exif", [b"Exif\0\0MM", b"Exif\0\0MM\0*\0\0\0\x08\0\x02\1\x12", b"Exif\0\0\xff" * 9])
def test_damaged_exif_does_not_damage_the_image(exif):
    content = io.BytesIO()
    Image.fromarray(CORNERS).save(content, "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(as_bytes(content.getvalue()), 64)[..., 0], CORNERS)


def test_files_that_are_not_images_are_refused_in_one_line(tmp_path):
    whole = encoded(100, (64, 64))
    for name, content in {"text.jpg": b"hello", "half.jpg": whole[: len(whole) // 2], "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_image(tmp_path / name, 8)
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / "absent.jpg", 8)


def test_an_image_that_is_too_large_is_refused_before_decoding():
    side = int(LARGEST**0.5) + 10
    content = io.BytesIO()
    Image.new("1", (side, side)).save(content, "PNG")
    with pytest.raises(UserError, match=f"{side}×{side} pixels; the limit is"):
        pixels(as_bytes(content.getvalue()), 8)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_features_are_computed_once_for_the_same_content(cache):
    batch_sizes = []

    def compute(batch: np.ndarray) -> np.ndarray:
        batch_sizes.append(len(batch))
        return batch.reshape(len(batch), 4, -1).astype(np.float16)

    images = [np.full((8, 8, 3), n, np.uint8) for n in range(40)]
    computed = features.features(images, 8, compute, "one")
    assert len(batch_sizes) == 2
    np.testing.assert_array_equal(computed[39], compute(images[39][None])[0])
    again = features.features(images[::-1], 8, lambda batch: pytest.fail("computed again"), "one")
    np.testing.assert_array_equal(again[0], computed[39])
    before = len(batch_sizes)
    features.features([*images, np.zeros((8, 8, 3), np.uint8) + 99], 8, compute, "one")
    assert len(batch_sizes) == before + 1, "only the new one"
    features.features(images[:1], 8, compute, "another")
    assert len(batch_sizes) == before + 2, "other weights, other features"


def test_features_of_images_that_are_read_otherwise_are_computed_anew(cache, monkeypatch):
    images = [np.zeros((8, 8, 3), np.uint8)]
    compute = lambda batch: batch.reshape(len(batch), 4, -1).astype(np.float16)  # noqa: E731
    (before,) = features.features(images, 8, compute, "one").paths
    monkeypatch.setattr(features, "READING", features.READING + 1)
    (after,) = features.features(images, 8, compute, "one").paths
    assert before != after


def test_a_damaged_file_is_computed_again(cache):
    images = [np.zeros((8, 8, 3), np.uint8)]
    compute = lambda batch: batch.reshape(len(batch), 4, -1).astype(np.float16)  # noqa: E731
    (path,) = features.features(images, 8, compute, "one").paths
    path.write_bytes(path.read_bytes()[:20])
    assert features.features(images, 8, compute, "one")[0].shape == (4, 48)


def test_hub_images_are_read_from_a_local_folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    features_of = datasets.Features({"image": datasets.Image(), "caption_0": datasets.Value("string"),
                                     "caption_1": datasets.Value("string"), "question": datasets.Value("string"),
                                     "answer": datasets.Value("string")})  # fmt: skip
    for split in ("train", "validation", "test"):
        texts = {"caption_0": ["a b", "c"], "caption_1": ["d", "e"], "question": ["q?", "r?"], "answer": ["x", "y"]}
        rows = {"image": [{"bytes": encoded(50 * n), "path": None} for n in range(2)], **texts}
        data = datasets.Dataset.from_dict(rows, features=features_of)
        (tmp_path / "pictures" / "data").mkdir(parents=True, exist_ok=True)
        data.to_parquet(str(tmp_path / f"pictures/data/{split}-00000-of-00001.parquet"))
    captioned = load_captions(CaptionHub(path="pictures", captions=("caption_0", "caption_1")), tmp_path)
    assert [e.captions for e in captioned.dev] == [("a b", "d"), ("c", "e")]
    assert abs(int(pixels(captioned.train[1].image, 8).mean()) - 50) < 3
    splits = load_questions(ImageQuestionHub(path="pictures"), tmp_path)
    assert [(e.question, e.answer) for e in splits.test["test"]] == [("q?", "x"), ("r?", "y")]
    with pytest.raises(UserError, match="row 1: no column 'caption_9'; did you mean"):
        load_captions(CaptionHub(path="pictures", captions=("caption_9",)), tmp_path)
