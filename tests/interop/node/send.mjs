// nodemailer: sends one message for each way of login, reports what the server said.
import { load, options, tls, answer } from './packages.mjs';

const nodemailer = load('nodemailer');
const results = [];
for (const way of options.ways) {
  const transport = nodemailer.createTransport({
    host: 'localhost', port: way.port, secure: way.secure, requireTLS: !way.secure, tls,
    auth: { user: options.user, pass: way.password }, authMethod: way.method,
    pool: way.pool ?? false, maxConnections: 2, connectionTimeout: 20000,
  });
  try {
    const messages = Array.from({ length: way.count ?? 1 }, (_, index) => transport.sendMail({
      from: options.user, to: options.to,
      subject: `Grüße ${index}`, text: '.dot\n..dots\n', html: '<p>ü</p>',
      attachments: [{ filename: 'bild.bin', content: Buffer.alloc(100000, index) }],
    }));
    const infos = await Promise.all(messages);
    results.push(infos.map((info) => info.response));
  } catch (error) {
    results.push({ code: error.code, responseCode: error.responseCode, response: error.response });
  }
  transport.close();
}
answer(results);
