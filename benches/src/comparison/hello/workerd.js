// The least that workerd needs to say hello.
export default {
  fetch() {
    return new Response("hello from workerd\n");
  },
};
