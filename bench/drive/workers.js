// A parent and three forked workers, each of which holds some 130 MiB: workers.js SECONDS
const { fork } = require("node:child_process");

if (process.send) {
  const end = Date.now() + 1000 * Number(process.argv[2]);
  const held = [];
  const timer = setInterval(() => {
    if (Date.now() > end) {
      clearInterval(timer);
      process.disconnect();
    } else if (held.length < 100) {
      held.push(Buffer.alloc(1 << 20, 1), Array.from({ length: 10000 }, (_, at) => ({ at })));
    } else {
      held[Math.floor(Math.random() * held.length)] = Buffer.alloc(1 << 20, 1);
    }
  }, 10);
} else {
  for (let worker = 0; worker < 3; worker++) {
    fork(__filename, [process.argv[2]]);
  }
}
