from mstkit.models.tokenizers.codebook import CodebookTokenizer, nearest_codes
from mstkit.models.tokenizers.dalle import DALLETokenizer
from mstkit.models.tokenizers.kmeans_tokenizer import KMeansTokenizer, PatchTokenizer
from mstkit.models.tokenizers.patch_features import NetworkFeatures, PatchFeatures, RawPatches
from mstkit.models.tokenizers.timm_network import TimmNetwork
from mstkit.models.tokenizers.tokenizer import Tokenizer, build_tokenizer
from mstkit.models.tokenizers.tokenizer_file import TokenizerFile, read_tokenizer, write_tokenizer
from mstkit.models.tokenizers.vq_kd_tokenizer import EncodedPatches, VQKDTokenizer

__all__ = [
    'CodebookTokenizer',
    'DALLETokenizer',
    'EncodedPatches',
    'KMeansTokenizer',
    'NetworkFeatures',
    'PatchFeatures',
    'PatchTokenizer',
    'RawPatches',
    'TimmNetwork',
    'Tokenizer',
    'TokenizerFile',
    'VQKDTokenizer',
    'build_tokenizer',
    'nearest_codes',
    'read_tokenizer',
    'write_tokenizer',
]
