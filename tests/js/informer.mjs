// An informer of the official client: informer.mjs KUBECONFIG NAMESPACE. Tells what it sees, one JSON object a line, and what
// it holds whenever a line comes in. Ends when its input does.
import { KubeConfig, CoreV1Api, makeInformer } from '@kubernetes/client-node';
import { createInterface } from 'node:readline';

const [file, namespace] = process.argv.slice(2);
const config = new KubeConfig();
config.loadFromFile(file);
const core = config.makeApiClient(CoreV1Api);
const say = (event, value) => process.stdout.write(JSON.stringify({ event, value }) + '\n');

const informer = makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`,
  () => core.listNamespacedConfigMap({ namespace }));
for (const event of ['add', 'update', 'delete'])
  informer.on(event, (object) => say(event, object.metadata.name));
informer.on('error', () => setTimeout(() => informer.start(), 200));
await informer.start();

const lines = createInterface({ input: process.stdin });
lines.on('line', () => say('held', informer.list(namespace).map((o) => o.metadata.name).sort()));
lines.on('close', () => process.exit(0));
