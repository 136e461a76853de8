// Exports that the page uses; the bundler drops everything else.
export { SparkRenderer, SplatMesh, PackedSplats } from "@sparkjsdev/spark";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
export {
  BufferGeometry, CapsuleGeometry, Color, CylinderGeometry, DirectionalLight, Float32BufferAttribute,
  GridHelper, Group, HemisphereLight, LineBasicMaterial, LineSegments, Matrix4, Mesh, MeshStandardMaterial,
  Euler, PerspectiveCamera, Quaternion, Scene, SphereGeometry, Spherical, Vector3, WebGLRenderer,
} from "three";
