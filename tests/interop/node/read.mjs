// imapflow: a session such as a webmail server has.
import { load, options, tls, answer } from './packages.mjs';

const { ImapFlow } = load('imapflow');

const connect = async (secure, password = options.password) => {
  const client = new ImapFlow({
    host: 'localhost', port: secure ? options.imaps : options.imap, secure, tls, logger: false,
    auth: { user: options.user, pass: password },
  });
  client.on('error', () => {});
  await client.connect();
  return client;
};

const steps = {
  async folders() {
    const client = await connect(true);
    const made = await client.mailboxCreate('Projekte/Grün');
    const listed = await client.list({ statusQuery: { messages: true, uidNext: true } });
    await client.mailboxRename('Projekte/Grün', 'Projekte/Blau');
    const renamed = (await client.list()).map((each) => each.path);
    await client.mailboxDelete('Projekte/Blau');
    await client.logout();
    return {
      made: made.created, renamed,
      special: Object.fromEntries(listed.filter((e) => e.specialUse).map((e) => [e.specialUse, e.path])),
      status: listed.find((each) => each.path === 'INBOX').status,
    };
  },

  async messages() {
    const client = await connect(false);
    const lock = await client.getMailboxLock('INBOX');
    const found = [];
    for await (const each of client.fetch('1:*', {
      uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true,
    })) {
      found.push({ uid: each.uid, subject: each.envelope.subject, from: each.envelope.from[0].address,
        type: each.bodyStructure.type, size: each.size });
    }
    const { content } = await client.download('1', '1');
    let text = '';
    for await (const chunk of content) text += chunk;
    const one = await client.fetchOne('1', { source: true });
    const searched = await client.search({ body: 'needle', since: new Date(2020, 0, 1) }, { uid: true });
    await client.messageFlagsAdd({ uid: searched }, ['\\Flagged', '$Label1'], { uid: true });
    const flagged = await client.fetchOne(String(searched[0]), { flags: true }, { uid: true });
    const copied = await client.messageCopy({ uid: searched }, 'Archive', { uid: true });
    const moved = await client.messageMove({ uid: searched }, 'Trash', { uid: true });
    await client.messageDelete('1');
    const left = client.mailbox.exists;
    lock.release();
    await client.logout();
    return { found, text, source: one.source.toString().length, searched, flags: [...flagged.flags],
      copied: copied.uidMap.size, moved: moved.uidMap.size, left };
  },

  async append() {
    const client = await connect(true);
    const done = await client.append('Drafts', Buffer.from('Subject: draft\r\n\r\nnot yet\r\n'),
      ['\\Draft', '\\Seen'], new Date(Date.UTC(2020, 1, 2, 3, 4, 5)));
    await client.mailboxOpen('Drafts');
    const one = await client.fetchOne(String(done.uid), { internalDate: true, flags: true }, { uid: true });
    await client.logout();
    return { date: one.internalDate, flags: [...one.flags].sort() };
  },

  async idle() {
    const reader = await connect(true);
    const writer = await connect(true);
    await reader.mailboxOpen('INBOX');
    const seen = new Promise((resolve) => reader.once('exists', resolve));
    const flags = new Promise((resolve) => reader.once('flags', resolve));
    const gone = new Promise((resolve) => reader.once('expunge', resolve));
    reader.idle();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await writer.append('INBOX', Buffer.from('Subject: now\r\n\r\nnow\r\n'));
    const exists = await seen;
    await writer.mailboxOpen('INBOX');
    await writer.messageFlagsAdd('1', ['\\Answered']);
    const changed = await flags;
    await writer.messageDelete('1');
    const expunged = await gone;
    await reader.logout();
    await writer.logout();
    return { count: exists.count, flags: [...changed.flags], expunged: expunged.seq };
  },

  async changes() {
    const client = await connect(true);
    await client.mailboxOpen('INBOX', { condstore: true });
    const before = client.mailbox.highestModseq;
    await client.messageFlagsAdd('2', ['\\Seen']);
    const changed = [];
    for await (const each of client.fetch('1:*', { flags: true }, { changedSince: before })) {
      changed.push(each.seq);
    }
    await client.logout();
    return { changed };
  },

  async refused() {
    try {
      await connect(true, 'guess');
      return { failed: false };
    } catch (error) {
      return { failed: true, authentication: error.authenticationFailed, code: error.serverResponseCode };
    }
  },
};

answer(await steps[options.step]());
process.exit(0);
