from mstkit.models.decoders.cnn_image_decoder import CNNImageDecoder
from mstkit.models.decoders.conv_decoder import ConvDecoder
from mstkit.models.decoders.cross_attention_decoder import CrossAttentionDecoder
from mstkit.models.decoders.linear_decoder import LinearDecoder
from mstkit.models.decoders.token_decoder import TokenDecoder, build_decoder
from mstkit.models.decoders.vit_decoder import ViTDecoder

__all__ = [
    'CNNImageDecoder',
    'ConvDecoder',
    'CrossAttentionDecoder',
    'LinearDecoder',
    'TokenDecoder',
    'ViTDecoder',
    'build_decoder',
]
