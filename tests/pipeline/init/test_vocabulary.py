"""Emotions are recognised in the languages of published corpora, with and without accents."""

from __future__ import annotations

import unicodedata

import pytest

from deiii.pipeline.init.found import InitError
from deiii.pipeline.init.look import look
from deiii.pipeline.init.vocabulary import is_emotion
from tests.pipeline.init.test_folders import every, touch, triples

ACCENTS = ["Colère", "DÉGOÛT", "Ärger", "überraschung", "Wütend", "Félicidade", "Üzüntü", "Öfke", "Şaşkınlık"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("word", ACCENTS)
def test_accents_do_not_hide_an_emotion(word, form):
    assert is_emotion(unicodedata.normalize(form, word))


@pytest.mark.parametrize("word", ["Müller", "José", "Işık", "Denek", "ä", "", "1", "悲伤x", "fête"])
def test_other_words_are_no_emotions(word):
    assert not is_emotion(word) and not is_emotion(word, short=True)


@pytest.mark.parametrize("words", [("Colère", "Dégoût", "Neutre"), ("Mutluluk", "Öfke", "Korku")])
def test_labels_with_accents_decide_between_two_levels_of_folders(words, tmp_path):
    paths = every("{p}/{e}/{n}.mp4", emotions=words)
    found = look(touch(tmp_path, *paths))
    assert triples(found) == {(path, path.split("/")[0], path.split("/")[1]) for path in paths}
    paths = every("{e}/{p}/{n}.mp4", emotions=words)
    found = look(touch(tmp_path / "other", *paths))
    assert triples(found) == {(path, path.split("/")[1], path.split("/")[0]) for path in paths}


@pytest.mark.parametrize("word", ["Denek ", "konuşmacı", "Locutor_", "sujet-"])
def test_folders_that_number_persons_are_no_labels(word, tmp_path):
    """Each folder became a class, so that the network would have learnt to tell persons apart."""
    touch(tmp_path, *(f"{word}{n}/{take}.mp4" for n in (1, 2, 3) for take in (1, 2)))
    with pytest.raises(InitError, match="it is not clear which part of the paths is the label"):
        look(tmp_path)


@pytest.mark.parametrize("words", [("class1", "class2", "class3"), ("1", "2", "3"), ("A1", "B2", "C3")])
def test_folders_with_numbers_can_be_labels(words, tmp_path):
    touch(tmp_path, *(f"{word}/{take}.mp4" for word in words for take in (1, 2)))
    found = look(tmp_path)
    assert {row.label for row in found.rows} == set(words)
    assert any("few are emotions" in note for note in found.notes)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "header",
    [
        "Fichier;Locuteur;Émotion", "Nom du fichier;Sujet;Étiquette", "Archivo;Hablante;Emoción",
        "Arquivo;Falante;Emoção", "Nome file;Soggetto;Emozione", "Dosya adı;Konuşmacı;Duygu",
    ],
)  # fmt: skip
def test_columns_are_named_in_the_languages_whose_emotions_are_known(header, form, tmp_path):
    names = ["c1.mp4", "c2.mp4", "c3.mp4", "c4.mp4"]
    touch(tmp_path, *names)
    rows = [(name, f"p{n // 2}", ("a", "b")[n % 2]) for n, name in enumerate(names)]
    text = "\n".join([unicodedata.normalize(form, header), *map(";".join, rows)])
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert triples(look(tmp_path)) == set(rows)
