"""Faster R-CNN: torchvision's implementation."""

from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from dlkit.classify import backbones
from dlkit.detect.models.torchvision_detector import PYRAMID_WIDTH, Pyramid, TorchvisionDetector

RCNN_BACKBONES = {
    "mobilenet": detection.fasterrcnn_mobilenet_v3_large_fpn,
    "resnet50": detection.fasterrcnn_resnet50_fpn,
}
SAMPLED = 64  # regions per image in training: Girshick 2015, section 2.3
ANCHORS = ((32,), (64,), (128,), (256,))  # sides in pixels, of each map of the pyramid
RATIOS = ((0.5, 1.0, 2.0),) * len(ANCHORS)
REGION, REPRESENTATION = 7, 512  # side of a region's map, units of the layers after it
PROPOSALS = 300  # regions per image at inference: Ren et al. 2015, section 4.1


class FasterRCNN(TorchvisionDetector):
    """Two stages: a region proposal network, then a classifier of regions (Ren et al. 2015).

    torchvision's region proposal network, RoI align and heads on a feature pyramid, on one of its
    own backbones or on a backbone of `dlkit.classify`.
    """

    def __init__(
        self, num_labels: int, backbone: str | backbones.BackboneSettings = "mobilenet"
    ) -> None:
        # torchvision counts the background as label 0. Its default of 512 regions per image takes
        # several times as long on a CPU.
        if isinstance(backbone, str):
            network: detection.FasterRCNN = RCNN_BACKBONES[backbone](
                weights=None,
                weights_backbone=None,
                num_classes=num_labels + 1,
                box_batch_size_per_image=SAMPLED,
            )
        else:
            network = detection.FasterRCNN(
                Pyramid(backbone, LastLevelMaxPool()),
                rpn_anchor_generator=AnchorGenerator(ANCHORS, RATIOS),
                # One point per cell is nearly as good as four (He et al. 2017, section 3).
                box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], REGION, sampling_ratio=1),
                box_head=TwoMLPHead(PYRAMID_WIDTH * REGION**2, REPRESENTATION),
                box_predictor=FastRCNNPredictor(REPRESENTATION, num_labels + 1),
                box_batch_size_per_image=SAMPLED,
                rpn_post_nms_top_n_test=PROPOSALS,
            )
        super().__init__(network, (network.rpn.head, network.roi_heads.box_predictor), 1)
