// The heads that look at regions, by torchvision's names: box head (two fully connected layers, or four convolutions and one), predictor, mask head.
import { Conv2d, ConvTranspose2d, init, Linear, Module, ReLU, Sequential } from "../../nn/index.js";
import { type Tensor, tidy } from "../../torch/index.js";

/** Kaiming's normal for a ReLU, by the outputs. */
function kaimingOut_(weight: Tensor, outputs: number, kernel: number): void {
  init.normal_(weight, { std: Math.sqrt(2 / (outputs * kernel * kernel)) });
}

function convolution(from: number, to: number): Sequential {
  const made = new Conv2d(from, to, 3, { padding: 1 });
  kaimingOut_(made.weight, to, 3);
  init.constant_(made.bias!, 0);
  return new Sequential(made, new ReLU());
}

class Flatten extends Module {
  forward(x: Tensor): Tensor {
    return x.flatten(1);
  }
}

/** fc6, fc7: [n, C, s, s] -> [n, width] */
export class TwoMlpHead extends Module {
  fc6: Linear;
  fc7: Linear;
  constructor(inputs: number, width: number) {
    super();
    this.fc6 = new Linear(inputs, width);
    this.fc7 = new Linear(width, width);
  }
  forward(x: Tensor): Tensor {
    return this.fc7.call(this.fc6.call(x.flatten(1)).relu()).relu();
  }
}

/** Four convolutions of 256 channels and a fully connected layer (torchvision's FastRCNNConvFCHead): [n, C, s, s] -> [n, width] */
export function convBoxHead(channels: number, size: number, width: number): Sequential {
  const convolutions = [0, 1, 2, 3].map((i) => convolution(i === 0 ? channels : 256, 256));
  return new Sequential(...convolutions, new Flatten(), new Linear(256 * size * size, width), new ReLU());
}

/** Scores of the background and K classes, and corrections of the box for each, or one for all. */
export class FastRcnnPredictor extends Module {
  clsScore: Linear;
  bboxPred: Linear;
  constructor(width: number, classes: number, agnostic: boolean) {
    super();
    this.clsScore = new Linear(width, classes + 1);
    this.bboxPred = new Linear(width, 4 * (agnostic ? 1 : classes + 1));
  }
  /** [n, width] -> logits [n, K + 1], corrections [n, K + 1 or 1, 4] */
  forward(x: Tensor): { logits: Tensor; deltas: Tensor } {
    return { logits: this.clsScore.call(x), deltas: this.bboxPred.call(x).unflatten(1, [-1, 4]) };
  }
}

/** Convolutions of 3x3 with ReLU: [n, C, s, s] -> [n, layers.at(-1), s, s] */
export function maskHead(channels: number, layers: readonly number[]): Sequential {
  return new Sequential(...layers.map((to, i) => convolution(i === 0 ? channels : layers[i - 1]!, to)));
}

/** A deconvolution to twice the grid, and a mask for the background and each class, or one for all: [n, C, s, s] -> [n, K + 1 or 1, 2 s, 2 s] */
export class MaskRcnnPredictor extends Module {
  conv5Mask: ConvTranspose2d;
  maskFcnLogits: Conv2d;
  constructor(channels: number, width: number, classes: number, agnostic: boolean) {
    super();
    const masks = agnostic ? 1 : classes + 1;
    this.conv5Mask = new ConvTranspose2d(channels, width, 2, { stride: 2 });
    this.maskFcnLogits = new Conv2d(width, masks, 1);
    // torch takes the outputs of a transposed convolution from dimension 0, which are its inputs.
    kaimingOut_(this.conv5Mask.weight, channels, 2);
    kaimingOut_(this.maskFcnLogits.weight, masks, 1);
  }
  forward(x: Tensor): Tensor {
    return tidy(() => this.maskFcnLogits.call(this.conv5Mask.call(x).relu()));
  }
}
