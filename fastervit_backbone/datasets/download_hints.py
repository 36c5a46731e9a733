"""Where to get the public data sets that the configs name."""

HOW_TO_GET_COCO = (
    'get train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org, unpack them into '
    'one folder and set COCO_ROOT to it (fastervit prepare-data coco does both)'
)
HOW_TO_GET_ADE = (
    'get ADEChallengeData2016.zip from data.csail.mit.edu/places/ADEchallenge, unpack it and set ADE_ROOT to '
    'the folder (fastervit prepare-data ade20k does both)'
)
HOW_TO_GET_VOC = (
    'get the VOC 2007 and 2012 archives from host.robots.ox.ac.uk/pascal/VOC, unpack them and set VOC_ROOT '
    'to the VOCdevkit folder (fastervit prepare-data voc does both)'
)
HOW_TO_GET_IMAGENET = (
    'get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org, unpack them to one folder '
    'per class (train/n01440764/..., val/n01440764/...) and set IMAGENET_ROOT to the folder of train '
    'and val'
)
