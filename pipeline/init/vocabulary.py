"""Words by which columns, folders and parts of file names are recognised."""

from __future__ import annotations

import re
import unicodedata

from deiii.data.tools.text.column_names import IDS, PATHS

# Names of emotions in folders, tables and file names: the words of published corpora, and their short forms.
# Without accents: `is_emotion` compares colère, and Ärger as aerger, with these.
EMOTIONS = frozenset(
    """
    neutral neu neutrality calm cal happy hap happiness joy joyful amused amusement sad sadness angry anger
    ang furious rage fear fearful fea afraid anxious anxiety panic disgust dis disgusted surprise surprised
    surprised_pleasant pleasant_surprise pleasant_surprised ps sur contempt contemptuous bored boredom excited
    excitement exc frustrated frustration fru pride proud shame guilt relief relieved interest interested
    confused confusion love desire despair worried worry serious other unknown_emotion positive negative
    freude wut aerger trauer angst ekel langeweile ueberraschung traurig froh wuetend
    alegria tristeza enojo ira miedo asco sorpresa joie tristesse colere peur degout neutre
    felicidade raiva medo nojo gioia rabbia paura disgusto sorpresa
    surpresa triste feliz neutro felicidad tristezza neutrale
    mutluluk mutlu uzuntu uzgun ofke ofkeli korku tiksinti igrenme saskinlik notr
    """.split()
)
_MARKS = re.compile(r"[\u0300-\u036f]")  # accents of letters that were decomposed
SHORT_FORMS = frozenset("an ha sa di fe su ne hp sd ag fr sp dg".split())
# s1, spk-03, speaker12, Actor_01, subject 4, F07, id10270
SPEAKER = re.compile(
    r"(?:s|sp|spk|spkr|speaker|actor|actress|act|sub|subj|subject|p|pid|part|participant|person|per|user|"
    r"talker|id|vp|m|f|w)[-_ ]?\d{1,6}",
    re.IGNORECASE,
)

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (*PATHS, *IDS),
    "speaker": (
        "speaker", "speaker_id", "speakerid", "spk", "spk_id", "spkid", "actor", "actor_id", "actorid",
        "actress", "subject", "subject_id", "subjectid", "subj", "participant", "participant_id", "person",
        "person_id", "personid", "talker", "talker_id", "user", "user_id", "client_id", "performer",
        "sprecher", "proband", "vp", "spkr", "spkr_id", "locuteur", "locutrice", "acteur", "actrice", "sujet",
        "hablante", "locutor", "sujeto", "falante", "parlante", "attore", "soggetto", "konusmaci", "denek",
    ),
    "label": (
        "label", "labels", "emotion", "emotions", "emotion_label", "emotion_name", "emotional_state", "emo",
        "class", "class_name", "category", "target", "affect", "expression", "mood", "y", "klasse",
        "annotation", "emo_class", "emocion", "emocao", "emozione", "etiquette", "etiqueta", "etichetta",
        "classe", "duygu",
    ),
    "valence": ("valence", "val", "v", "pleasure", "evaluation", "emo_val", "valence_mean", "mean_valence"),
    "arousal": ("arousal", "aro", "a", "act", "activation", "emo_act", "arousal_mean", "mean_arousal"),
    "dominance": ("dominance", "dom", "d", "power", "emo_dom", "control", "dominance_mean", "mean_dominance"),
    "fold": ("fold", "folds", "fold_id", "cv_fold"),
    "sex": ("sex", "gender", "speaker_sex", "speaker_gender", "actor_sex", "actor_gender", "geschlecht"),
}  # fmt: skip


def is_emotion(word: str, short: bool = False) -> bool:
    """Return whether a word names an emotion; with ``short``, also by two letters as in file names.

    >>> is_emotion("Angry"), is_emotion("OAF_angry"), is_emotion("an", short=True)
    (True, False, True)
    >>> is_emotion("Colère"), is_emotion("Überraschung"), is_emotion("Şaşkınlık")
    (True, True, True)
    """
    letters = unicodedata.normalize("NFKD", word.casefold().replace("ı", "i"))
    for umlaut in ("", "e"):  # ü as u, and as ue
        plain = _MARKS.sub("", letters.replace("\u0308", umlaut))
        plain = re.sub(r"[^a-z]+", "_", plain).strip("_")
        if plain in EMOTIONS or (short and plain in SHORT_FORMS):
            return True
    return False
