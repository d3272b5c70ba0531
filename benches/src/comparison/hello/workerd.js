// The smallest hello for workerd.
export default {
  fetch() {
    return new Response("hello from workerd\n");
  },
};
