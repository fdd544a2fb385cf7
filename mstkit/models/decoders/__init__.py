from mstkit.models.decoders.cnn_image_decoder import CNNImageDecoder

__all__ = ['CNNImageDecoder']
