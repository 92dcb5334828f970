"use strict";
// A photo: from a file, the clipboard, a drop or the camera; the square that is cut out of it.

const photo = {opened: null, crop: {left: 0, top: 0, side: 1}};

function setUpPhoto() {
  const can = ready().some(model => model.encoder);
  $("no-encoder").hidden = can;
  $("photo-tools").hidden = !can;
  const page = document.documentElement, panel = $("photo-panel");
  page.ondragover = event => { event.preventDefault(); panel.classList.toggle("drop", can); };
  page.ondragleave = () => panel.classList.remove("drop");
  page.ondrop = attempt(event => {
    event.preventDefault();  // a photo that is dropped does not replace the page
    panel.classList.remove("drop");
    return can ? takeFile(event.dataTransfer.files[0]) : undefined;
  });
  if (!can) return;
  $("file").onchange = attempt(() => takeFile($("file").files[0]).finally(() => $("file").value = ""));
  $("file-label").onkeydown = event => { if (event.key === "Enter" || event.key === " ") $("file").click(); };
  document.onpaste = attempt(event => {
    const file = event.clipboardData.files[0];
    return file ? takeFile(file) : undefined;
  });
  for (const id of ["zoom", "across", "down"]) $(id).oninput = readCrop;
  const canvas = $("crop");
  canvas.onpointerdown = event => canvas.setPointerCapture(event.pointerId);
  canvas.onpointermove = event => {
    if (!event.buttons || !photo.opened) return;
    const {picture} = photo.opened, shorter = Math.min(picture.width, picture.height);
    const step = photo.crop.side * shorter / canvas.clientWidth;
    moveBy(-event.movementX * step, -event.movementY * step);
  };
  canvas.onkeydown = event => {
    const [x, y] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] || [];
    if (x === undefined || !photo.opened) return;
    event.preventDefault();
    const step = 0.03 * photo.crop.side * Math.min(photo.opened.picture.width, photo.opened.picture.height);
    moveBy(x * step, y * step);
  };
  canvas.onwheel = event => {
    event.preventDefault();
    $("zoom").value = Number($("zoom").value) * Math.exp(-event.deltaY / 500);
    readCrop();
  };
}

function moveBy(x, y) {  // the square, in pixels of the picture
  const {picture} = photo.opened, side = photo.crop.side * Math.min(picture.width, picture.height);
  for (const [id, by, room] of [["across", x, picture.width - side], ["down", y, picture.height - side]]) {
    if (room > 0) $(id).value = Number($(id).value) + by / room;
  }
  readCrop();
}

async function takeFile(file) {
  if (!file) return;
  if (file.size > backend.limit) throw new Error(`${file.name || "The picture"} has ${(file.size / 2 ** 20).toFixed(1)} MB, at most ${backend.limit / 2 ** 20} MB are taken.`);
  photo.opened = await backend.open(file);
  photo.name = file.name || "your photo";
  [$("zoom").value, $("across").value, $("down").value] = [1, 0.5, 0.5];
  $("cropper").hidden = false;
  await readCrop();
}

function readCrop() {  // the sliders' square, drawn, encoded
  const {picture} = photo.opened, shorter = Math.min(picture.width, picture.height), side = 1 / Number($("zoom").value);
  const left = (picture.width / shorter - side) * Number($("across").value), top = (picture.height / shorter - side) * Number($("down").value);
  photo.crop = {left, top, side};
  const context = $("crop").getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, 256, 256);
  context.drawImage(picture, left * shorter, top * shorter, side * shorter, side * shorter, 0, 0, 256, 256);
  return encodePhoto();
}

const encodePhoto = latest(async () => {
  const opened = photo.opened, crop = photo.crop, none = state.models.map(() => null);
  const taken = {name: photo.name, index: null, z: none.slice(), attributes: none.slice(), originals: none.slice()};
  for (const model of ready().filter(one => one.encoder)) {
    const found = await backend.encode(model, opened, crop);
    [taken.z[model.index], taken.originals[model.index], taken.attributes[model.index]] = [found.z, found.image, found.attributes];
  }
  await pick(taken);
});

function setUpCamera() {
  let stream = null;
  const stop = () => {
    stream?.getTracks().forEach(track => track.stop());
    stream = null;
    $("video").hidden = $("snap").hidden = true;
    $("camera").textContent = "Camera";
  };
  $("camera").onclick = attempt(async () => {
    if (stream) return stop();
    if (!navigator.mediaDevices) throw new Error("The browser gives its camera only to pages of this machine (127.0.0.1 or https).");
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "user"}}).catch(error => {
      throw new Error(`No camera: ${error.message || error.name}.`);
    });
    $("video").srcObject = stream;
    $("video").hidden = $("snap").hidden = false;
    $("camera").textContent = "Stop the camera";
    await $("video").play();
  });
  $("snap").onclick = attempt(async () => {
    const video = $("video"), canvas = make("canvas", {width: video.videoWidth, height: video.videoHeight});
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise(done => canvas.toBlob(done, "image/png"));
    stop();
    await takeFile(new File([blob], "your photo"));
  });
}
