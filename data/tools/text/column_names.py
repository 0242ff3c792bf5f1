"""Names of the columns of tables and lists that others wrote.

>>> column_name("File_Path") in PATHS
True
"""

from __future__ import annotations

import re
import unicodedata

# Columns that name a file, as `column_name` returns them.
PATHS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "full_path", "relative_path", "wav",
    "wav_path", "wav_file", "audio", "audio_path", "audio_file", "video", "video_path", "video_file", "clip",
    "clip_path", "clip_name", "media", "media_path", "recording", "clip_id", "datei", "dateiname", "pfad",
    "audio_filepath", "audio_file_path", "video_filepath", "fichier", "nom_fichier", "nom_du_fichier",
    "chemin", "archivo", "nombre_archivo", "ruta", "arquivo", "caminho", "nome_file", "percorso", "dosya",
    "dosya_adi",
)  # fmt: skip
# Columns of names, which may be those of files. Where a table has both kinds, the column of PATHS is meant.
IDS = (
    "name", "utterance", "utterance_id", "utt_id", "utt", "id", "key", "video_name", "video_id", "file_id",
    "recording_id",
)  # fmt: skip


def column_name(name: str) -> str:
    """Return the name of a column in small letters without accents.

    Blanks, signs and new words become one underscore.

    >>> column_name(" Split Set "), column_name("speakerID"), column_name("Actor-ID"), column_name("Émotion")
    ('split_set', 'speaker_id', 'actor_id', 'emotion')
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    letters = unicodedata.normalize("NFKD", words.casefold().replace("ı", "i"))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
