'use strict';
/*
 * The Node.js language bootstrap: it runs inside an execution environment, loads the function's handler, and answers
 * its invocations over the Lambda Runtime API. It needs Node.js 14.17 or later and no packages.
 *
 *     node [flags] bootstrap.cjs [SDK_DIR ...]
 *
 * SDK_DIR is a node_modules directory that carries the AWS SDK. What a function sees is what AWS documents:
 *   https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
 *   https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html
 *   https://docs.aws.amazon.com/lambda/latest/dg/nodejs-context.html
 *   https://docs.aws.amazon.com/lambda/latest/dg/nodejs-logging.html
 *   https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
 */

const fs = require('fs');
const Module = require('module');
const net = require('net');
const path = require('path');
const { Writable } = require('stream');
const { format, types } = require('util');

const NODE_MAJOR = parseInt(process.versions.node, 10);
// AWS removed callback handlers, context.done and its kin, and the waiting for an empty event loop with Node.js 24.
const HAS_CALLBACKS = NODE_MAJOR < 24;

const EXIT_FAILED = 1;
const EXIT_UNSETTLED_PROMISE = 13; // the code with which Node.js itself reports a top-level await that never settles
const EXIT_UNHANDLED_REJECTION = 128;
const EXIT_UNCAUGHT_EXCEPTION = 129;

const nothing = () => {};

// In a sandbox that was made ahead there is no function yet. This process says that it is ready, and waits for the
// function's variables; the function's code is in its place when they come.
if (process.env._LAMBDAD_ASSIGNMENT_FD) awaitAssignment(parseInt(process.env._LAMBDAD_ASSIGNMENT_FD, 10));

/**
 * Does what a first invocation will do, with nobody waiting: Node.js loads and compiles its own parts when they are first
 * used. The connection leads nowhere (port 9 is that of the discard service) and is given up at once.
 */
function rehearse() {
  const socket = net.connect({ host: '127.0.0.1', port: 9 });
  socket.setNoDelay(true);
  socket.on('error', nothing);
  socket.destroy();
  require('./rehearsed.cjs').handler(format('%s', {}));
  delete require.cache[require.resolve('./rehearsed.cjs')];
  new Writable({ write: nothing }).end('x');
}

function awaitAssignment(fd) {
  rehearse();
  fs.writeSync(fd, 'r');
  const variables = JSON.parse(fs.readFileSync(fd, 'utf8'));
  fs.closeSync(fd);
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, variables);
  process.chdir(variables.LAMBDA_TASK_ROOT);
}

// The state of the process
let isInitialized = false;
let invocation = null; // the one that waits for its answer
let isCrashing = false;
let exitCode = EXIT_FAILED; // until the Runtime API is reached

// ---------------------------------------------------------------------------------------------------------- errors

/** An error of the runtime itself; `type`, `Runtime.` and the name of its class, is what AWS reports as errorType. */
function runtimeError(type, message, properties) {
  const name = type.slice('Runtime.'.length);
  const error = new { [name]: class extends Error {} }[name](message);
  Object.defineProperty(error, 'name', { value: type, configurable: true, writable: true });
  Error.captureStackTrace(error, runtimeError);
  return Object.assign(error, properties);
}

/** The same, standing for `cause`, an error that Node.js raised while it loaded the function. */
function loadError(type, cause) {
  const error = runtimeError(type, String(cause));
  const stack = String(cause.stack);
  // A syntax error's stack opens with the file, line and text at fault; a missing module's repeats the message.
  const origin = cause instanceof SyntaxError ? stack : stack.slice(Math.max(0, stack.indexOf('\n    at ') + 1));
  error.stack = `${type}: ${error.message}\n${origin}`;
  return error;
}

function isError(value) {
  if (value instanceof Error || types.isNativeError(value)) return true;
  if (value === null || typeof value !== 'object') return false;
  return typeof value.name === 'string' && typeof value.message === 'string' && typeof value.stack === 'string';
}

/** The error document that the invoker receives. Anything can be thrown, and anything can go wrong reading it. */
function errorDocument(error) {
  try {
    if (isError(error)) {
      return {
        errorType: String(error.name),
        errorMessage: String(error.message),
        trace: String(error.stack || '').split('\n'),
      };
    }
    const isNothing = error === undefined || error === null;
    if (isNothing && HAS_CALLBACKS) return { errorType: 'string', errorMessage: 'handled', trace: [] };
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch (_unreadable) {
    return {
      errorType: 'handled',
      errorMessage:
        'callback called with Error argument, but there was a problem while retrieving one or more of its ' +
        'message, name, and stack',
      trace: [],
    };
  }
}

// An error's type goes into a header, where a line end would start another one.
const headerValue = (text) => text.replace(/[^\x20-\x7e]/g, '?');

// ------------------------------------------------------------------------------------------------------------ logs

const LEVELS = { TRACE: 1, DEBUG: 2, INFO: 3, WARN: 4, ERROR: 5, FATAL: 6 };
const IS_JSON = String(process.env.AWS_LAMBDA_LOG_FORMAT).toUpperCase() === 'JSON';
const MINIMUM_LEVEL = LEVELS[String(process.env.AWS_LAMBDA_LOG_LEVEL).toUpperCase()] || 0;
const FRAME_MAGIC = 0xa55a0000;
const TELEMETRY_FD = parseInt(process.env._LAMBDA_TELEMETRY_LOG_FD, 10);
const { writeSync } = fs; // a function may replace fs.writeSync

let requestId; // undefined until the first event, as in AWS's log lines
let tenantId;

/** Writes all of `buffer` before it returns, so that a log line is in the pipe before the response is sent. */
function writeFully(fd, buffer) {
  let offset = 0;
  while (offset < buffer.length) {
    try {
      offset += writeSync(fd, buffer, offset, buffer.length - offset);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      // The pipe is full and some process made it non-blocking: give the reader a millisecond.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

/** Writes a frame: type, length, time in microseconds, message. Its record stays whole whatever lines it has. */
function writeFrame(level, time_ms, message) {
  const length = Buffer.byteLength(message);
  const frame = Buffer.allocUnsafe(16 + length);
  const time_us = time_ms * 1000;
  frame.writeUInt32BE(FRAME_MAGIC + ((level << 2) | 2 | (IS_JSON ? 0 : 1)), 0);
  frame.writeUInt32BE(length, 4);
  frame.writeUInt32BE(Math.floor(time_us / 0x100000000), 8);
  frame.writeUInt32BE(time_us % 0x100000000, 12);
  frame.write(message, 16);
  writeFully(TELEMETRY_FD, frame);
}

/** Writes a log record; like the console of Node.js it never throws, whatever became of the pipe. */
function writeRecord(level, time, message) {
  try {
    if (TELEMETRY_FD >= 0) return writeFrame(level, time.getTime(), `${message}\n`);
    // Without frames one line is one record: AWS folds the others into it with carriage returns.
    writeFully(1, Buffer.from(`${message.replace(/\n/g, '\r')}\n`));
  } catch (_closed) {
    // Nobody reads the log any more.
  }
}

const stackLines = (error) => String(error.stack || '').split('\n');

/** The JSON format names an error after its class: a Runtime.ImportModuleError is an ImportModuleError there. */
const className = (error) => (error.constructor && error.constructor.name) || 'UnknownError';

/** The fields of an error in the log; its own properties come along. */
function jsonReplacer(_key, value) {
  if (!isError(value)) return value;
  const { message } = value;
  return { errorType: className(value), errorMessage: message, stackTrace: stackLines(value), ...value };
}

function textReplacer(_key, value) {
  if (!isError(value)) return value;
  const { name, message, code } = value;
  return { errorType: name, errorMessage: message, code, ...value, stack: stackLines(value) };
}

function jsonRecord(level, time, parameters) {
  const record = { timestamp: time.toISOString(), level, requestId, tenantId };
  if (parameters.length === 1) {
    try {
      [record.message] = parameters;
      return JSON.stringify(record, jsonReplacer);
    } catch (_unserializable) {
      // A circular structure or a BigInt is logged as text.
    }
  }
  record.message = format(...parameters);
  const error = parameters.find(isError);
  if (error) {
    const { errorMessage, trace } = errorDocument(error);
    Object.assign(record, { errorType: className(error), errorMessage, stackTrace: trace });
  }
  return JSON.stringify(record);
}

function log(levelName, parameters) {
  const level = LEVELS[levelName];
  if (level < MINIMUM_LEVEL) return;
  const time = new Date();
  const text = IS_JSON
    ? jsonRecord(levelName, time, parameters)
    : `${time.toISOString()}\t${requestId}\t${levelName}\t${format(...parameters)}`;
  writeRecord(level, time, text);
}

/** What was thrown as an error, as the log always has it. */
function intoError(thrown) {
  if (isError(thrown)) return thrown;
  const { errorMessage } = errorDocument(thrown);
  return new Error(errorMessage);
}

/** Logs an error that ended an invocation, the init or the process, in AWS's words. */
function logError(title, thrown) {
  const error = intoError(thrown);
  if (IS_JSON) return log('ERROR', [error]);
  let text;
  try {
    text = JSON.stringify(error, textReplacer);
  } catch (_unserializable) {
    text = JSON.stringify(errorDocument(error));
  }
  log('ERROR', [title, `\t${text}`]);
}

function patchConsole() {
  const methods = { trace: 'TRACE', debug: 'DEBUG', log: 'INFO', info: 'INFO', warn: 'WARN', error: 'ERROR' };
  for (const [method, level] of Object.entries(methods)) {
    console[method] = (message, ...parameters) => log(level, [message, ...parameters]);
  }
  console.fatal = (message, ...parameters) => log('FATAL', [message, ...parameters]);
}

/**
 * Replaces process.stdout or process.stderr by a stream that writes at once. Node.js's own queues what does not fit
 * into the pipe, which would let text come after the response, or be lost at an exit.
 */
function patchStdio(name, fd) {
  let stream;
  const create = () => {
    stream = new Writable({
      autoDestroy: false,
      emitClose: false,
      write(chunk, _encoding, done) {
        try {
          writeFully(fd, chunk);
        } catch (error) {
          return done(error);
        }
        done();
      },
      destroy(error, done) {
        done(error);
      },
    });
    return Object.assign(stream, { fd, _type: 'pipe', _isStdio: true });
  };
  Object.defineProperty(process, name, {
    configurable: true,
    enumerable: true,
    get: () => stream || create(),
  });
}

// ----------------------------------------------------------------------------------------------------- Runtime API

const API = process.env.AWS_LAMBDA_RUNTIME_API;
const RUNTIME = '/2018-06-01/runtime';
const NEXT = `GET ${RUNTIME}/invocation/next HTTP/1.1\r\nHost: ${API}\r\n\r\n`;

let socket;
const expected = []; // one callback for each response that the Runtime API owes, in order

/** The end of a chunked body, and its bytes; undefined while it is incomplete. */
function readChunks(data, start) {
  const chunks = [];
  for (let at = start; ; ) {
    const lineEnd = data.indexOf('\r\n', at, 'latin1');
    if (lineEnd < 0) return undefined;
    const size = parseInt(data.latin1Slice(at, lineEnd), 16);
    at = lineEnd + 2;
    if (size === 0) {
      if (data.length < at + 2) return undefined;
      return { end: at + 2, body: Buffer.concat(chunks).toString() };
    }
    if (data.length < at + size + 2) return undefined;
    chunks.push(data.subarray(at, at + size));
    at += size + 2;
  }
}

/** Parses the response at `start`. While it is incomplete it has no body, and `end` is where it will end if known. */
function parseResponse(data, start) {
  const headEnd = data.indexOf('\r\n\r\n', start, 'latin1');
  if (headEnd < 0) return { end: 0 };
  const lines = data.toString('utf8', start, headEnd).split('\r\n');
  const headers = {};
  for (let i = 1; i < lines.length; i++) {
    const colon = lines[i].indexOf(':');
    headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
  }
  const status = parseInt(lines[0].slice(9, 12), 10);
  if (headers['transfer-encoding'] === 'chunked') {
    const chunked = readChunks(data, headEnd + 4);
    return chunked ? { status, headers, end: chunked.end, body: chunked.body } : { end: 0 };
  }
  const end = headEnd + 4 + (parseInt(headers['content-length'], 10) || 0);
  if (data.length < end) return { end };
  return { status, headers, end, body: data.toString('utf8', headEnd + 4, end) };
}

const EMPTY = Buffer.alloc(0);
let held = EMPTY; // the bytes of an incomplete response, in a buffer with room for more
let heldLength = 0;
let neededLength = 0; // how many bytes complete it, 0 while unknown

function hold(bytes) {
  const length = heldLength + bytes.length;
  if (held.length < Math.max(length, neededLength)) {
    const grown = Buffer.allocUnsafe(Math.max(length * 2, neededLength));
    held.copy(grown, 0, 0, heldLength);
    held = grown;
  }
  bytes.copy(held, heldLength);
  heldLength = length;
}

/** Takes bytes from the Runtime API; `chunk` is overwritten after the return. */
function receive(chunk) {
  const isContinued = heldLength > 0;
  if (isContinued) hold(chunk);
  if (heldLength < neededLength) return;
  const data = isContinued ? held.subarray(0, heldLength) : chunk;
  for (let start = 0; ; ) {
    const response = start < data.length ? parseResponse(data, start) : undefined;
    if (response !== undefined && response.body !== undefined) {
      start = response.end;
      expected.shift()(response);
      continue;
    }
    neededLength = response === undefined ? 0 : Math.max(0, response.end - start);
    if (isContinued && start === 0) return;
    held = EMPTY;
    heldLength = 0;
    if (response !== undefined) hold(data.subarray(start));
    return;
  }
}

/** Opens the one connection, over a raw socket: it takes a third of the processor time of the http module. */
function connect() {
  const colon = API.lastIndexOf(':');
  socket = net.connect({
    host: API.slice(0, colon),
    port: parseInt(API.slice(colon + 1), 10),
    onread: {
      buffer: Buffer.allocUnsafeSlow(65536),
      callback(length, buffer) {
        receive(buffer.subarray(0, length));
        return true;
      },
    },
  });
  socket.setNoDelay(true);
  socket.on('connect', () => {
    if (!isCrashing) exitCode = 0;
  });
  socket.on('error', nothing); // 'close' follows
  socket.on('close', () => process.exit(exitCode)); // the daemon is done with this environment
  socket.unref();
}

/** Sends a request; the process stays alive for its response. */
function request(text, onResponse) {
  expected.push(onResponse);
  socket.ref();
  socket.write(text);
}

function post(target, headers, body, onResponse) {
  const head = `POST ${RUNTIME}/${target} HTTP/1.1\r\nHost: ${API}\r\nContent-Type: application/json\r\n${headers}`;
  request(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, onResponse);
}

function postError(target, error, onResponse) {
  const document = errorDocument(error);
  const type = headerValue(document.errorType);
  post(target, `Lambda-Runtime-Function-Error-Type: ${type}\r\n`, JSON.stringify(document), onResponse);
}

// ----------------------------------------------------------------------------------------------------- event loop

// AWS keeps its listener for an empty event loop under this symbol, where monitoring layers look for it.
const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit');

/** Calls `listener` when the function has left nothing to wait for: a waiting Runtime API socket does not count. */
function whenLoopIsEmpty(listener) {
  globalThis[BEFORE_EXIT] = listener;
}

/** Reports `error` where it can still be reported, then exits. */
function crash(title, error, code) {
  logError(title, error);
  if (isCrashing) return;
  isCrashing = true;
  exitCode = code;
  const exit = () => process.exit(code);
  if (!isInitialized) postError('init/error', error, exit);
  else if (invocation === null) socket.write('', exit); // after what is still on its way out
  else invocation.crash(error, exit);
}

function catchStrayErrors() {
  process.on('uncaughtException', (error) => crash('Uncaught Exception', error, EXIT_UNCAUGHT_EXCEPTION));
  process.on('unhandledRejection', (reason, promise) => {
    const message = isError(reason) ? String(reason) : format(reason);
    const error = runtimeError('Runtime.UnhandledPromiseRejection', message, { reason, promise });
    crash('Unhandled Promise Rejection', error, EXIT_UNHANDLED_REJECTION);
  });
  whenLoopIsEmpty(() => process.exit(EXIT_UNSETTLED_PROMISE)); // during the init: a top-level await that never ends
  process.on('beforeExit', () => globalThis[BEFORE_EXIT]());
}

// ---------------------------------------------------------------------------------------------- buffered invocations

/** An invocation whose answer is one document. */
class BufferedInvocation {
  constructor(id) {
    this.target = `invocation/${id}`;
    this.isDecided = false; // by the function's first answer; the others are ignored
    this.answer = undefined; // { error } or { body }, once it is to be sent
    this.isSent = false;
    this.onAcknowledged = () => {
      invocation = null;
      askForNext();
    };
  }

  /** Takes the function's answer, to be sent now or when the loop is empty. */
  decide(isFailure, value, waitsForEmptyLoop) {
    if (this.isDecided) return;
    this.isDecided = true;
    let answer;
    try {
      const body = isFailure ? undefined : JSON.stringify(value === undefined ? null : value);
      answer = isFailure ? { error: value } : { body: body === undefined ? 'null' : body };
    } catch (_unserializable) {
      answer = { error: new Error('Unable to stringify response body') };
    }
    if (waitsForEmptyLoop) whenLoopIsEmpty(() => this.schedule(answer));
    else this.schedule(answer);
  }

  /**
   * Sends the answer when the promise rejections of this turn are known: one of them ends the process, and so no event
   * may be asked for before.
   */
  schedule(answer) {
    whenLoopIsEmpty(nothing);
    this.answer = answer;
    if (answer.body === undefined) logError('Invoke Error', answer.error);
    setImmediate(() => {
      if (!isCrashing) this.send();
    });
  }

  send() {
    this.isSent = true;
    if (this.answer.body === undefined) {
      return postError(`${this.target}/error`, this.answer.error, () => this.onAcknowledged());
    }
    invocation = null;
    respondAndAskForNext(this.target, this.answer.body);
  }

  /** An answer that was given before the crash still counts, except that on Node.js 24 the crash does. */
  crash(error, exit) {
    whenLoopIsEmpty(nothing);
    if (this.isSent) this.onAcknowledged = exit;
    else if (this.answer === undefined || !HAS_CALLBACKS) postError(`${this.target}/error`, error, exit);
    else if (this.answer.body === undefined) postError(`${this.target}/error`, this.answer.error, exit);
    else post(`${this.target}/response`, '', this.answer.body, exit);
  }
}

function reportRefusal(response) {
  if (response.status < 300) return;
  const reason = `Failed to post handler success response. Http response code: ${response.status}.`;
  process.stderr.write(`[ERROR] [${Date.now()}] LAMBDA_RUNTIME ${reason}\n`);
}

/**
 * Sends the response and asks for the next event in one write: the daemon acknowledges the one when it has the other.
 * An error of the response comes at once.
 */
function respondAndAskForNext(target, body) {
  expected.push(reportRefusal, onNext);
  socket.ref();
  const head = `POST ${RUNTIME}/${target}/response HTTP/1.1\r\nHost: ${API}\r\nContent-Type: application/json\r\n`;
  const length = `Lambda-Runtime-Acknowledge: with-next\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
  socket.write(head + length + body + NEXT);
}

function invokeBuffered(handler, event, context) {
  const current = invocation;
  const isWaiting = () => HAS_CALLBACKS && context.callbackWaitsForEmptyEventLoop;
  const done = (error, result) => {
    const isFailure = error !== null && error !== undefined;
    current.decide(isFailure, isFailure ? error : result, isWaiting());
  };
  if (HAS_CALLBACKS) {
    const answerNow = (isFailure, value) => {
      context.callbackWaitsForEmptyEventLoop = false;
      current.decide(isFailure, value, false);
    };
    context.succeed = (result) => answerNow(false, result);
    context.fail = (error) => answerNow(true, error);
    context.done = (error, result) => {
      context.callbackWaitsForEmptyEventLoop = false;
      done(error, result);
    };
  }
  whenLoopIsEmpty(() => current.decide(false, null, false));
  try {
    const returned = HAS_CALLBACKS ? handler(event, context, done) : handler(event, context);
    if (returned && typeof returned.then === 'function') {
      if (NODE_MAJOR >= 18 && !current.isDecided) whenLoopIsEmpty(exitUnsettled);
      returned.then(
        (result) => current.decide(false, result, false),
        (error) => current.decide(true, error, false),
      );
    } else if (!HAS_CALLBACKS) current.decide(false, returned, false);
  } catch (error) {
    current.decide(true, error, false);
  }
}

/**
 * The handler's promise can no longer be settled:
 * https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html#troubleshooting-invocation-nodejs-exit
 */
function exitUnsettled() {
  const message =
    'The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise ' +
    'that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes';
  crash('Invoke Error', runtimeError('Runtime.NodeJsExit', message), EXIT_UNSETTLED_PROMISE);
}

// --------------------------------------------------------------------------------------------- streamed invocations

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const STREAMING_HEADERS =
  'Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n' +
  'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n';

/** The response of a streamed invocation, sent as the function writes it. */
class ResponseStream extends Writable {
  constructor(target, highWaterMark, onAcknowledged) {
    super(highWaterMark >= 0 ? { highWaterMark } : {});
    this._target = target;
    this._onAcknowledged = onAcknowledged;
    this._contentType = 'application/octet-stream';
    this._onBeforeFirstWrite = nothing;
    this._isStarted = false;
    this._isComplete = false;
    this._failure = undefined; // { error } once the function has failed
    this._destroyError = undefined;
  }

  setContentType(contentType) {
    if (this._isStarted) throw runtimeError('Runtime.InvalidStreamingOperation', 'Cannot set content-type, too late.');
    this._contentType = contentType;
  }

  write(chunk, ...rest) {
    const isBytes = typeof chunk === 'string' || chunk instanceof Uint8Array;
    return super.write(isBytes || chunk === null || chunk === undefined ? chunk : JSON.stringify(chunk), ...rest);
  }

  _write(chunk, _encoding, done) {
    socket.cork();
    this._start();
    this._sendChunk(chunk, done);
    socket.uncork();
  }

  _final(done) {
    socket.cork();
    this._start();
    this._complete();
    socket.uncork();
    done();
  }

  _destroy(error, done) {
    this._destroyError = error;
    done(error);
  }

  _start() {
    if (this._isStarted) return;
    this._isStarted = true;
    expected.push(this._onAcknowledged);
    const type = `Content-Type: ${headerValue(String(this._contentType))}\r\n`;
    const line = `POST ${RUNTIME}/${this._target}/response HTTP/1.1\r\nHost: ${API}\r\n`;
    socket.write(`${line}${type}${STREAMING_HEADERS}\r\n`);
    this._onBeforeFirstWrite((chunk) => this._sendChunk(Buffer.from(chunk), nothing));
  }

  _sendChunk(chunk, done) {
    if (chunk.length === 0) return process.nextTick(done); // a chunk of no bytes would end the body
    socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1');
    socket.write(chunk);
    socket.write('\r\n', 'latin1', () => done());
  }

  /** Ends the body; a failure goes into the trailers, since the status has long been sent. */
  _complete() {
    if (this._isComplete) return;
    this._isComplete = true;
    if (this._failure === undefined) return socket.write('0\r\n\r\n', 'latin1');
    const document = errorDocument(this._failure.error);
    const body = Buffer.from(JSON.stringify(document)).toString('base64');
    const type = `Lambda-Runtime-Function-Error-Type: ${headerValue(document.errorType)}\r\n`;
    socket.write(`0\r\n${type}Lambda-Runtime-Function-Error-Body: ${body}\r\n\r\n`, 'latin1');
  }

  /** Ends a started response with an error, behind what the function has written. */
  _fail(error) {
    this._failure = { error };
    this.on('error', nothing); // what the function may still write is dropped
    if (this.destroyed) this._complete();
    else this.end();
  }
}

/** An invocation whose answer is a stream. It ends when the handler has returned and the stream is acknowledged. */
class StreamedInvocation {
  constructor(id) {
    this.target = `invocation/${id}`;
    this.isHandlerDone = false;
    this.isAcknowledged = false;
    this.onEnd = nothing;
    this.stream = undefined;
  }

  open(highWaterMark) {
    this.stream = new ResponseStream(this.target, highWaterMark, () => {
      this.isAcknowledged = true;
      this.endIfDone();
    });
    socket.ref(); // an open response is something to wait for
    return this.stream;
  }

  endIfDone() {
    if (!this.isAcknowledged || !this.stream._isComplete) return;
    if (this.isHandlerDone) return this.onEnd();
    socket.unref();
    whenLoopIsEmpty(() => this.returned()); // the handler waits for something that will not happen
  }

  /** The handler's promise was fulfilled. A stream that was destroyed before its end is a failure nobody reported. */
  returned() {
    const { stream } = this;
    if (stream.destroyed && !stream._isComplete) {
      return this.fail(stream._destroyError || new Error('The response stream was destroyed before it ended'));
    }
    this.isHandlerDone = true;
    this.endIfDone();
  }

  fail(error) {
    if (this.isHandlerDone) return;
    logError('Invoke Error', error);
    this.report(error);
  }

  report(error) {
    const { stream } = this;
    this.isHandlerDone = true;
    if (stream._isComplete) return this.endIfDone();
    if (stream._isStarted) return stream._fail(error);
    stream.on('error', nothing);
    stream._isStarted = true;
    stream._isComplete = true;
    stream.destroy();
    postError(`${this.target}/error`, error, stream._onAcknowledged);
  }

  crash(error, exit) {
    this.onEnd = exit;
    this.report(error);
  }
}

function invokeStreamed(handler, event, context) {
  const current = invocation;
  current.onEnd = () => {
    invocation = null;
    socket.unref();
    const waits = HAS_CALLBACKS && context.callbackWaitsForEmptyEventLoop;
    setImmediate(waits ? () => whenLoopIsEmpty(askForNext) : askForNext);
  };
  const stream = current.open(handler[HIGH_WATER_MARK]);
  try {
    const returned = handler(event, stream, context);
    if (!returned || typeof returned.then !== 'function') {
      throw runtimeError('Runtime.MalformedStreamingHandler', 'Streaming does not support non-async handlers.');
    }
    returned.then(
      () => current.returned(),
      (error) => current.fail(error),
    );
  } catch (error) {
    current.fail(error);
  }
}

/** The global that AWS documents for response streaming. */
const awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = 'response';
    if (options && options.highWaterMark !== undefined) {
      handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark, 10);
    }
    return handler;
  },
  HttpResponseStream: class HttpResponseStream {
    /** Makes `stream` an HTTP response: 8 NULs part `metadata`, its status, headers and cookies, from the body. */
    static from(stream, metadata) {
      stream.setContentType('application/vnd.awslambda.http-integration-response');
      const prelude = Buffer.from(`${JSON.stringify(metadata || {})}${'\0'.repeat(8)}`);
      stream._onBeforeFirstWrite = (write) => write(prelude);
      return stream;
    }
  },
};

// ------------------------------------------------------------------------------------------------------ invocations

const FUNCTION = {
  functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
  functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
  memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
  logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
  logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
};
const parseHeader = (text) => (text ? JSON.parse(text) : undefined);

let functionHandler; // what the handler setting names
let hasTraceId = false;

function createContext(headers) {
  const deadline_ms = parseInt(headers['lambda-runtime-deadline-ms'], 10);
  const context = HAS_CALLBACKS ? { callbackWaitsForEmptyEventLoop: true } : {};
  Object.assign(context, FUNCTION);
  context.clientContext = parseHeader(headers['lambda-runtime-client-context']);
  context.identity = parseHeader(headers['lambda-runtime-cognito-identity']);
  context.invokedFunctionArn = headers['lambda-runtime-invoked-function-arn'];
  context.awsRequestId = requestId;
  if (tenantId !== undefined) context.tenantId = tenantId;
  context.getRemainingTimeInMillis = () => deadline_ms - Date.now();
  return context;
}

function setTraceId(traceId) {
  if (traceId) process.env._X_AMZN_TRACE_ID = traceId;
  else if (hasTraceId) delete process.env._X_AMZN_TRACE_ID;
  hasTraceId = Boolean(traceId);
}

function askForNext() {
  whenLoopIsEmpty(nothing);
  if (!isCrashing) request(NEXT, onNext);
}

function onNext(response) {
  if (response.status !== 200) process.exit(EXIT_FAILED); // there are no more events for this environment
  socket.unref();
  // In a tick of its own, so that an AsyncLocalStorage entered by one invocation is not seen by the next.
  process.nextTick(invoke, response);
}

function invoke({ headers, body }) {
  requestId = headers['lambda-runtime-aws-request-id'];
  tenantId = headers['lambda-runtime-aws-tenant-id'];
  setTraceId(headers['lambda-runtime-trace-id']);
  let event;
  let context;
  try {
    event = JSON.parse(body);
    context = createContext(headers);
  } catch (error) {
    invocation = new BufferedInvocation(requestId);
    return invocation.decide(true, error, false);
  }
  if (functionHandler[STREAMING] === undefined) {
    invocation = new BufferedInvocation(requestId);
    invokeBuffered(functionHandler, event, context);
  } else {
    invocation = new StreamedInvocation(requestId);
    invokeStreamed(functionHandler, event, context);
  }
}

// ----------------------------------------------------------------------------------------------------------- loading

const isFile = (file) => {
  const status = fs.statSync(file, { throwIfNoEntry: false });
  return status !== undefined && status.isFile();
};

/** Whether the package.json that governs `file` makes its .js files ES modules. */
function isInModulePackage(file) {
  for (let directory = path.dirname(file); ; directory = path.dirname(directory)) {
    const manifest = path.join(directory, 'package.json');
    if (isFile(manifest)) return JSON.parse(fs.readFileSync(manifest, 'utf8')).type === 'module';
    if (directory === path.dirname(directory)) return false;
  }
}

/** Loads the module that the handler setting names: AWS tries the bare name, .js, .mjs, .cjs, then packages. */
async function loadModule(root, name, packageDirectories) {
  const base = path.resolve(root, name);
  const extension = ['', '.js', '.mjs', '.cjs'].find((candidate) => isFile(base + candidate));
  if (extension === undefined) return require(require.resolve(name, { paths: [root, path.dirname(base)] }));
  const file = base + extension;
  const isModule = extension === '.mjs' || (extension === '.js' && isInModulePackage(file));
  resolveImports(file, isModule, packageDirectories);
  return isModule ? import(require('url').pathToFileURL(file).href) : require(file);
}

async function loadHandler(setting, root, packageDirectories) {
  if (setting.includes('..')) {
    const advice = 'Use absolute paths when specifying root directories in handler names.';
    throw runtimeError('Runtime.MalformedHandlerName', `'${setting}' is not a valid handler name. ${advice}`);
  }
  const parts = /^([^.]*)\.(.+)$/.exec(path.basename(setting));
  if (parts === null) throw runtimeError('Runtime.MalformedHandlerName', 'Bad handler');
  const name = setting.slice(0, setting.length - parts[2].length - 1);
  let loaded;
  try {
    loaded = await loadModule(root, name, packageDirectories);
  } catch (error) {
    if (error instanceof SyntaxError) throw loadError('Runtime.UserCodeSyntaxError', error);
    const isMissing = error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND');
    throw isMissing ? loadError('Runtime.ImportModuleError', error) : error;
  }
  const found = parts[2].split('.').reduce((value, key) => value && value[key], loaded);
  checkHandler(found, setting);
  return found;
}

function checkHandler(found, setting) {
  if (!found) throw runtimeError('Runtime.HandlerNotFound', `${setting} is undefined or not exported`);
  if (typeof found !== 'function') throw runtimeError('Runtime.HandlerNotFound', `${setting} is not a function`);
  if (found[STREAMING] === undefined && found.length >= 3 && !HAS_CALLBACKS) {
    throw runtimeError(
      'Runtime.CallbackHandlerDeprecated',
      'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. ' +
        'You need to modify this function to use a supported handler signature to use Node.js 24 or later. ' +
        'For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.',
    );
  }
}

/**
 * Lets require() find the packages of layers and the SDK, unless the function's own NODE_PATH says where to look: then
 * only the SDK, and after that. Returns the node_modules directories outside the function.
 */
function addPackageDirectories(sdkDirectories, layers) {
  const { env } = process;
  const major = process.versions.node.split('.')[0];
  // As the runtime of Lambda has it, with the SDK where Lambda keeps its own.
  const own = [`${layers}/nodejs/node${major}/node_modules`, `${layers}/nodejs/node_modules`];
  const behind = [env.LAMBDA_RUNTIME_DIR, env.LAMBDA_TASK_ROOT];
  if (env.LAMBDA_RUNTIME_DIR) own.push(`${env.LAMBDA_RUNTIME_DIR}/node_modules`);
  const wanted = env.NODE_PATH
    ? [...env.NODE_PATH.split(path.delimiter), ...sdkDirectories]
    : [...own, ...sdkDirectories, ...behind];
  const all = [...new Set(wanted)].filter(Boolean);
  env.NODE_PATH = all.join(path.delimiter);
  Module._initPaths(); // the one way to change what NODE_PATH means after the start
  return all.filter((directory) => path.basename(directory) === 'node_modules');
}

/** The directories that exist and in which ES modules beside `file` would not look by themselves, going upwards. */
function outOfReach(file, directories) {
  const inReach = new Set();
  for (let directory = path.dirname(file); !inReach.has(directory); directory = path.dirname(directory)) {
    inReach.add(directory);
    const packages = path.join(directory, 'node_modules');
    if (fs.existsSync(packages)) inReach.add(fs.realpathSync(packages));
  }
  return directories.filter((directory) => fs.existsSync(directory) && !inReach.has(fs.realpathSync(directory)));
}

/** Whether the ES module at `file` clearly imports nothing but what Node.js brings along. */
function importsOnlyBuiltins(file) {
  const text = fs.readFileSync(file, 'utf8');
  if (/\bimport\s*\(\s*[^'"\s]|\b(?:from|import)\s*\//.test(text)) return false; // computed, or after a comment
  const specifiers = Array.from(text.matchAll(/\b(?:from|import)\s*\(?\s*(['"])(.*?)\1/g), (match) => match[2]);
  return specifiers.every((name) => name.startsWith('node:') || Module.builtinModules.includes(name));
}

/**
 * Lets import find packages in `directories`, as require does. Node.js can be told so since 18.19 and 20.6, by hooks
 * in a thread that costs as much as half a start, and since 22.15 by hooks that cost next to nothing: they are set only
 * for functions that can need them.
 */
function resolveImports(file, isModule, directories) {
  if (!Module.register || directories.length === 0) return;
  const unreached = outOfReach(file, directories);
  if (unreached.length === 0) return;
  const { pathToFileURL } = require('url');
  // A file beside a node_modules directory: what it imports is looked for in there.
  const parents = unreached.map((directory) => pathToFileURL(path.join(directory, '..', 'importer.mjs')).href);
  if (Module.registerHooks) {
    if (isModule || fs.readFileSync(file).includes('import(')) Module.registerHooks(resolveHooks(parents));
  } else if (isModule && !importsOnlyBuiltins(file)) {
    Module.register('./resolve_hook.mjs', pathToFileURL(__filename), { data: parents });
  }
}

function resolveHooks(parents) {
  return {
    resolve(specifier, context, nextResolve) {
      try {
        return nextResolve(specifier, context);
      } catch (error) {
        if (error.code !== 'ERR_MODULE_NOT_FOUND' || !/^[@a-z0-9]/i.test(specifier)) throw error;
        for (const parentURL of parents) {
          try {
            return nextResolve(specifier, { ...context, parentURL });
          } catch (_absent) {
            // The next directory may have it.
          }
        }
        throw error;
      }
    },
  };
}

// ---------------------------------------------------------------------------------------------------------- the main

function main() {
  const { env, argv } = process;
  delete env._LAMBDA_TELEMETRY_LOG_FD;
  // A wrapper script finds this script at the end of the interpreter's command line, as on Lambda.
  const sdkDirectories = env._LAMBDAD_SDK_DIRS ? env._LAMBDAD_SDK_DIRS.split(':') : argv.splice(2);
  delete env._LAMBDAD_SDK_DIRS;
  const layers = env._LAMBDAD_LAYERS || '/opt'; // elsewhere where functions have no root of their own
  delete env._LAMBDAD_LAYERS;
  patchStdio('stdout', 1);
  patchStdio('stderr', 2);
  patchConsole();
  catchStrayErrors();
  connect();
  globalThis.awslambda = awslambda;
  const packageDirectories = addPackageDirectories(sdkDirectories, layers);
  loadHandler(env._HANDLER, env.LAMBDA_TASK_ROOT || process.cwd(), packageDirectories).then(
    (loaded) => {
      if (isCrashing) return;
      functionHandler = loaded;
      isInitialized = true;
      askForNext();
    },
    (error) => crash(HAS_CALLBACKS ? 'Uncaught Exception' : 'Init Error', error, EXIT_FAILED),
  );
}

main();
