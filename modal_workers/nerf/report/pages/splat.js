// Interactive view of the model; rendered only when something has changed.
const told = JSON.parse(document.getElementById("ply").textContent);
const bytes = Uint8Array.from(atob(told.ply), (one) => one.charCodeAt(0)).buffer;
told.ply = "";
const $ = (id) => document.getElementById(id);
const [stage, canvas, loading] = ["stage", "canvas", "loading"].map($);
const {
  Color, OrbitControls, PackedSplats, PerspectiveCamera, Scene, SparkRenderer, SplatMesh, WebGLRenderer,
} = VIEWER;

const begin = async () => {
  const renderer = new WebGLRenderer({ canvas, antialias: false, powerPreference: "high-performance" });
  const scene = new Scene();
  const camera = new PerspectiveCamera(38, 1, told.radius * 0.02, told.radius * 60);
  camera.up.set(0, 0, 1);
  const controls = new OrbitControls(camera, canvas);
  controls.minDistance = told.radius * 0.4;
  controls.maxDistance = told.radius * 20;
  let wanted = false;
  const draw = () => {
    if (wanted) return;
    wanted = true;
    requestAnimationFrame(() => {
      wanted = false;
      renderer.render(scene, camera);
      canvas.dataset.drawn = Number(canvas.dataset.drawn || 0) + 1;
    });
  };
  const spark = new SparkRenderer({ renderer, enableLod: false, onDirty: draw });
  const splats = new PackedSplats({ fileBytes: bytes, fileName: "splat.ply" });
  await splats.initialized;
  scene.add(spark, new SplatMesh({ packedSplats: splats }));
  canvas.dataset.splats = splats.numSplats;
  const home = () => {
    const [azimuth, elevation] = [0.6, told.elevation_rad];
    const away = told.radius * 3.6;
    camera.position.set(
      away * Math.cos(elevation) * Math.cos(azimuth), away * Math.cos(elevation) * Math.sin(azimuth), away * Math.sin(elevation));
    controls.target.set(0, 0, 0);
    controls.update();
    draw();
  };
  const back = (chosen) => {
    for (const one of document.querySelectorAll("[data-back]")) one.setAttribute("aria-pressed", one === chosen);
    scene.background = new Color(chosen.dataset.back);
    draw();
  };
  const zoom = (factor) => {
    camera.position.sub(controls.target).multiplyScalar(factor).add(controls.target);
    controls.update();
    draw();
  };
  const turn = (azimuth, up) => {
    const place = camera.position.clone().sub(controls.target);
    const away = place.length();
    const around = Math.atan2(place.y, place.x) + azimuth;
    const elevation = Math.min(1.5, Math.max(-1.5, Math.asin(place.z / away) + up));
    camera.position.set(away * Math.cos(elevation) * Math.cos(around), away * Math.cos(elevation) * Math.sin(around), away * Math.sin(elevation))
      .add(controls.target);
    controls.update();
    draw();
  };
  const fit = () => {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    renderer.setPixelRatio(Math.min(devicePixelRatio || 1, 2));
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
    draw();
  };
  const keys = {
    ArrowLeft: () => turn(-0.12, 0), ArrowRight: () => turn(0.12, 0), ArrowUp: () => turn(0, 0.12), ArrowDown: () => turn(0, -0.12),
    "+": () => zoom(1 / 1.2), "=": () => zoom(1 / 1.2), "-": () => zoom(1.2), 0: home, Home: home,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  controls.addEventListener("change", draw);
  $("home").addEventListener("click", home);
  $("in").addEventListener("click", () => zoom(0.8));
  $("out").addEventListener("click", () => zoom(1.25));
  $("full").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen()));
  for (const one of document.querySelectorAll("[data-back]")) one.addEventListener("click", () => back(one));
  new ResizeObserver(fit).observe(canvas);
  back(document.querySelector("[data-back]"));
  fit();
  home();
  loading.hidden = true;
};
begin().catch((error) => {
  loading.textContent = `The model cannot be shown: ${error.message}`;
});
