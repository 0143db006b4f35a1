"""One file per method; the file reads like its paper."""

from onlygood.core.method import Method
from onlygood.methods.adgan import ADGAN
from onlygood.methods.ae_ssim import AESSIM
from onlygood.methods.alad import ALAD
from onlygood.methods.ama import AMA
from onlygood.methods.anogan import AnoGAN
from onlygood.methods.autoencoder import Autoencoder
from onlygood.methods.avid import AVID
from onlygood.methods.cavga import CAVGA
from onlygood.methods.cbigan import CBiGAN
from onlygood.methods.cebigan import CEBiGAN
from onlygood.methods.deep_svdd import DeepSVDD
from onlygood.methods.egbad import EGBAD
from onlygood.methods.f_anogan import FAnoGAN
from onlygood.methods.fence_gan import FenceGAN
from onlygood.methods.ganomaly import GANomaly
from onlygood.methods.gaussian import Gaussian
from onlygood.methods.geotrans import GeoTrans
from onlygood.methods.glow import Glow
from onlygood.methods.gpnd import GPND
from onlygood.methods.itae import ITAE
from onlygood.methods.kde import KDE
from onlygood.methods.knn import KNN
from onlygood.methods.lsa import LSA
from onlygood.methods.mean_picture import MeanPicture
from onlygood.methods.ocgan import OCGAN
from onlygood.methods.ocsvm import OCSVM
from onlygood.methods.patch_knn import PatchKNN
from onlygood.methods.pca import PCA
from onlygood.methods.piad import PIAD
from onlygood.methods.pixelcnn import PixelCNN
from onlygood.methods.reflect import Reflect
from onlygood.methods.skip_ganomaly import SkipGANomaly
from onlygood.methods.vae import VAE
from onlygood.methods.vae_grad import VAEGrad
from onlygood.methods.waic import WAIC

METHODS: dict[str, type[Method]] = {
    "reflect": Reflect,
    "cbigan": CBiGAN,
    "cebigan": CEBiGAN,
    "piad": PIAD,
    "ama": AMA,
    "autoencoder": Autoencoder,
    "ganomaly": GANomaly,
    "f_anogan": FAnoGAN,
    "egbad": EGBAD,
    "alad": ALAD,
    "anogan": AnoGAN,
    "skip_ganomaly": SkipGANomaly,
    "ae_ssim": AESSIM,
    "vae": VAE,
    "vae_grad": VAEGrad,
    "deep_svdd": DeepSVDD,
    "lsa": LSA,
    "gpnd": GPND,
    "geotrans": GeoTrans,
    "itae": ITAE,
    "ocgan": OCGAN,
    "adgan": ADGAN,
    "avid": AVID,
    "cavga": CAVGA,
    "fence_gan": FenceGAN,
    "pixelcnn": PixelCNN,
    "glow": Glow,
    "waic": WAIC,
    "mean_picture": MeanPicture,
    "pca": PCA,
    "kde": KDE,
    "ocsvm": OCSVM,
    "knn": KNN,
    "gaussian": Gaussian,
    "patch_knn": PatchKNN,
}
"""Every method by the name that users type."""
