"""Base of all networks: the encoding of a batch's streams.

Axes: B clips, T video steps, L log-mel hops, R rows of an extra stream, P spatial tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from deiii.data.config.schema import ModelConfig
from deiii.data.loader.batch import Batch
from deiii.model.distributed.layers import RankAware, statistics_of_valid
from deiii.model.network.fusion import VisualFusion
from deiii.model.network.gpu.side_stream import SideStream
from deiii.model.network.heads import Encoded, Outputs
from deiii.model.network.visual_encoders import ImageEncoder, only_valid, times_taken

HOPS_PER_STEP = 4  # log-mel hops per step of the audio encoders


class Network(RankAware, nn.Module):
    """The interface of networks for training, evaluation and export: `forward` from `Batch` to `Outputs`.

    A subclass makes the encoders in its constructor (`deiii.model.network.inputs.build`), in the order that
    decides the initial weights of a seed. Every network satisfies these invariants, which tests check: the
    place of a clip in the batch, the other clips of the batch and the content of masked steps have no effect
    in evaluation; a clip that lacks a stream, or all of them, gives finite outputs and gradients.

    Attributes:
        config: the settings.
        as_tokens: stages of ``model.extra`` whose rows are tokens beside those of the frames.
        frame_encoder, flow_encoder, fusion, audio_encoder: ``None`` where their input is off.
        extra_encoders: encoders of the stages of ``model.extra``, keyed by stage.
        drop: dropout of encoded features.
        encoded: outputs of encoders that were computed before, by the name of the encoder's attribute; see
            `encoder_output`.
    """

    config: ModelConfig
    as_tokens: Sequence[str]
    frame_encoder: nn.Module | None
    flow_encoder: nn.Module | None
    fusion: VisualFusion | None
    audio_encoder: nn.Module | None
    extra_encoders: nn.ModuleDict
    drop: nn.Module
    encoded: Mapping[str, Tensor] | None = None

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of every head."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def encode_video(self, batch: Batch) -> Encoded | None:
        """Encode and fuse frames and flow to [B,T,D]; the mask is true for steps that hold either.

        The result is ``None`` for a network that reads neither.
        """
        if self.fusion is None:
            return None
        v_mask, o_mask = batch.video_mask, batch.flow_mask
        v = o = tokens = None
        side = SideStream("flow", v_mask.device)
        if self.frame_encoder is not None:
            v = self.encoder_output("frame_encoder", batch)
        if self.as_tokens:
            v, tokens = self._add_tokens(v, v_mask, batch)
            v_mask = tokens.any(dim=2)
        if self.flow_encoder is not None:
            with side:
                o = self.encoder_output("flow_encoder", batch)
            side.join(o)
        if v is None:
            mask = o_mask
        elif o is None:
            mask = v_mask
        else:
            mask = v_mask | o_mask
        return Encoded(self.drop(self.fusion(v, o, v_mask, o_mask, tokens)), mask, batch.video_time)

    def encode_audio(self, batch: Batch) -> Encoded | None:
        """Encode log-mel [B,L,M] as features [B,ceil(L/4),D]; ``None`` for a network without log-mel."""
        if self.audio_encoder is None:
            return None
        features = self.drop(self.encoder_output("audio_encoder", batch))
        return Encoded(features, batch.audio_mask[:, ::HOPS_PER_STEP], batch.audio_time[:, ::HOPS_PER_STEP])

    def encode_extra(self, name: str, batch: Batch) -> Encoded:
        """Encode the rows of a stage of ``model.extra``, [B,R,...], as features [B,R,D]."""
        extra = batch.extra[name]
        return Encoded(self.drop(self.extra_encoders[name](extra.values, extra.mask)), extra.mask, extra.time)

    def encoder_output(self, name: str, batch: Batch) -> Tensor:
        """Return the output of an encoder: the one in ``encoded``, or computed where there is none.

        Args:
            name: ``frame_encoder``, ``flow_encoder`` or ``audio_encoder``; the network must have it.
            batch: its input.

        Returns:
            tokens [B,T,P,D] of frames or flow, features [B,ceil(L/4),D] of audio.
        """
        if self.encoded is not None and name in self.encoded:
            return self.encoded[name]
        encoder = getattr(self, name)
        if name == "audio_encoder":
            return encoder(batch.logmel, batch.audio_mask)
        if name == "flow_encoder":
            return self._encode_images(encoder, batch.flow, batch.flow_mask, self.config.flow_scale)
        return self._encode_images(encoder, batch.frames, batch.video_mask)

    def _add_tokens(self, v_BTPD: Tensor | None, v_mask: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Append the vectors of pretrained encoders to the frame tokens of their step.

        Returns:
            the tokens [B,T,P,D] and the mask of each, bool [B,T,P].
        """
        tokens = [] if v_BTPD is None else [v_BTPD]
        masks = [] if v_BTPD is None else [v_mask[..., None].expand(v_BTPD.shape[:3])]
        for name in self.as_tokens:
            extra = batch.extra[name]
            tokens.append(self.extra_encoders[name](extra.values, extra.mask)[:, :, None])
            masks.append(extra.mask[..., None])
        return torch.cat(tokens, dim=2), torch.cat(masks, dim=2)

    def _encode_images(
        self, encoder: nn.Module, images: Tensor, mask_BT: Tensor, factor: float = 1.0
    ) -> Tensor:
        """Encode images [B,T,C,S,S] times a factor as tokens [B,T,P,D].

        The content of masked images has no effect.
        """
        images, mask = images.flatten(0, 1), mask_BT.flatten()
        if isinstance(encoder, ImageEncoder) and (kernels := encoder.kernels_for(images)) is not None:
            with statistics_of_valid(encoder, mask.any()):
                tokens = encoder.forward_by_kernels(kernels, images, mask, factor)
            return tokens.unflatten(0, mask_BT.shape)
        images = images * factor if factor != 1 else images
        if not self.training:
            images = images.masked_fill(~mask[:, None, None, None], 0.0)
            return encoder(images).unflatten(0, mask_BT.shape)
        if self.ranks is None:
            if torch.compiler.is_compiling() and isinstance(encoder, ImageEncoder):
                return encoder(only_valid(images, mask), mask.float()).unflatten(0, mask_BT.shape)
            compiling = torch.compiler.is_compiling()  # torch.compile cannot trace writes to ``data``
            with nullcontext() if compiling else statistics_of_valid(encoder, mask.any()):
                return encoder(only_valid(images, mask)).unflatten(0, mask_BT.shape)
        # One process copies valid images into masked places, and a copy may be of another rank's image. Here
        # the weight of an image in the statistics is the number of times that one process would take it.
        weight = self.ranks.own(times_taken(self.ranks.whole(mask_BT).flatten()))
        return encoder(images, weight).unflatten(0, mask_BT.shape)
