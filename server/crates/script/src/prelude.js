// What a projection's program sees of the server: the words with which it says what it follows
// and how, and those with which it writes. Answers the functions by which the host drives it.
//
// Compiling: options, fromAll, fromStream(s), fromCategory, on_event, on_any are there, and what
// they return offers the words that may follow. Running: those are gone; emit, linkTo,
// linkStreamTo, copyTo and log are there.
(function () {
    'use strict';
    // The program may change what is global; what is used below is what was there before it.
    const { parse, stringify } = JSON;
    const { keys, freeze, defineProperty } = Object;
    const isArray = Array.isArray;

    const said = {
        all: false, streams: [], category: null, byStream: false, byFunction: false,
        fold: false, any: false, types: [], deleted: false, biState: false, outputState: false,
        includeLinks: false, resultStream: null, partitionResultStream: null,
    };
    const handlers = new Map();
    const created = [];
    const transforms = [];
    let init = null, initShared = null, any = null, deleted = null, partitionBy = null;

    // A partition's state by its name; '' is the one of a program without partitions.
    const states = new Map();
    let shared;
    let handling = false;
    let written = [];
    let lines = [];

    const text = (value, name) => {
        if (typeof value === 'string' && value.trim() !== '') return value;
        throw new TypeError(`${name}: a text that is not empty is needed, not ${show(value)}`);
    };
    const object = (value, name) => {
        if (typeof value === 'object' && value !== null) return value;
        throw new TypeError(`${name}: an object is needed, not ${show(value)}`);
    };
    const callable = (value, name) => {
        if (typeof value === 'function') return value;
        throw new TypeError(`${name}: a function is needed, not ${show(value)}`);
    };
    const show = (value) => {
        const shown = typeof value === 'object' ? stringify(value) : String(value);
        return shown === undefined ? 'undefined' : shown.slice(0, 100);
    };

    // ---- what a program says of itself

    const FOLLOWERS = {
        fromStream: ['when', 'partitionBy', 'outputState'],
        fromStreams: ['when', 'partitionBy', 'outputState'],
        fromAll: ['when', 'partitionBy', 'outputState', 'foreachStream'],
        fromCategory: ['when', 'partitionBy', 'outputState', 'foreachStream'],
        partitionBy: ['when'],
        foreachStream: ['when'],
        when: ['transformBy', 'filterBy', 'outputState', 'outputTo', '$defines_state_transform'],
        outputState: ['transformBy', 'filterBy', 'outputTo'],
        transformBy: ['transformBy', 'filterBy', 'outputState', 'outputTo'],
        filterBy: ['transformBy', 'filterBy', 'outputState', 'outputTo'],
        outputTo: [],
    };
    const after = (word) => {
        const chain = {};
        for (const next of FOLLOWERS[word]) chain[next] = words[next];
        return chain;
    };
    const words = {
        when(given) {
            object(given, 'when');
            for (const name of keys(given)) {
                if (typeof given[name] === 'function') on(name, given[name]);
            }
            said.fold = true;
            return after('when');
        },
        partitionBy(given) {
            partitionBy = callable(given, 'partitionBy');
            said.byFunction = true;
            return after('partitionBy');
        },
        foreachStream() {
            said.byStream = true;
            return after('foreachStream');
        },
        outputState() {
            said.outputState = true;
            return after('outputState');
        },
        transformBy(given) {
            transforms.push({ filters: false, of: callable(given, 'transformBy') });
            said.outputState = true;
            return after('transformBy');
        },
        filterBy(given) {
            transforms.push({ filters: true, of: callable(given, 'filterBy') });
            said.outputState = true;
            return after('filterBy');
        },
        outputTo(stream, ofPartition) {
            said.resultStream = text(stream, 'outputTo');
            if (ofPartition !== undefined) {
                said.partitionResultStream = text(ofPartition, 'outputTo');
            }
            return after('outputTo');
        },
        $defines_state_transform() {
            said.outputState = true;
        },
    };
    const on = (name, handler) => {
        switch (name) {
            case '$init': init = handler; break;
            case '$initShared': initShared = handler; said.biState = true; break;
            case '$any': any = handler; said.any = true; break;
            case '$created': created.push(handler); break;
            case '$deleted': deleted = handler; said.deleted = true; break;
            default:
                if (!handlers.has(name)) said.types.push(name);
                handlers.set(name, handler);
        }
    };
    const flag = (value, name) => {
        if (typeof value === 'boolean') return value;
        throw new TypeError(`options: ${name} is true or false, not ${show(value)}`);
    };
    const OPTIONS = {
        $includelinks: (value) => { said.includeLinks = flag(value, '$includeLinks'); },
        bistate: (value) => { said.biState = flag(value, 'biState'); },
        resultstreamname: (value) => { said.resultStream = text(value, 'resultStreamName'); },
        // Events are always in the order of the log: there is nothing to be put right, and no lag.
        reorderevents: (value) => { flag(value, 'reorderEvents'); },
        processinglag: (value) => {
            if (typeof value !== 'number') throw new TypeError('options: processingLag is a number');
        },
    };
    const sources = {
        options(given) {
            for (const name of keys(object(given, 'options'))) {
                const set = OPTIONS[name.toLowerCase()];
                if (set === undefined) {
                    throw new TypeError(`options: there is no option '${name}'`);
                }
                set(given[name]);
            }
        },
        fromAll() {
            said.all = true;
            return after('fromAll');
        },
        fromStream(stream) {
            said.streams.push(text(stream, 'fromStream'));
            return after('fromStream');
        },
        fromStreams(...given) {
            const streams = isArray(given[0]) ? given[0] : given;
            for (const stream of streams) said.streams.push(text(stream, 'fromStreams'));
            return after('fromStreams');
        },
        fromCategory(...given) {
            const categories = isArray(given[0]) ? given[0] : given;
            for (const category of categories) {
                said.streams.push(`$ce-${text(category, 'fromCategory')}`);
            }
            said.category = categories.length === 1 ? categories[0] : null;
            return after('fromCategory');
        },
        fromCategories(...given) {
            return sources.fromCategory(...given);
        },
        on_event(name, handler) {
            on(text(name, 'on_event'), callable(handler, 'on_event'));
            said.fold = true;
        },
        on_any(handler) {
            on('$any', callable(handler, 'on_any'));
            said.fold = true;
        },
    };

    // ---- what a program may do

    const metadataOf = (given, name) => {
        if (given === undefined) return null;
        if (isArray(given)) throw new TypeError(`${name}: an object is needed, not an array`);
        return stringify(object(given, name));
    };
    const write = (stream, type, isJson, data, metadata) => {
        if (!handling) throw new TypeError('only a handler of events writes');
        written.push([stream, type, isJson, data, metadata]);
    };
    const deeds = {
        emit(stream, type, body, metadata) {
            write(text(stream, 'emit: the stream'), text(type, 'emit: the event type'), true,
                stringify(object(body, 'emit: the body')), metadataOf(metadata, 'emit: the metadata'));
        },
        linkTo(stream, event, metadata) {
            const { sequenceNumber, streamId } = object(event, 'linkTo: the event');
            if (typeof sequenceNumber !== 'number' || typeof streamId !== 'string') {
                throw new TypeError(`linkTo: no event is ${show(sequenceNumber)}@${show(streamId)}`);
            }
            write(text(stream, 'linkTo: the stream'), '$>', false, `${sequenceNumber}@${streamId}`,
                metadataOf(metadata, 'linkTo: the metadata'));
        },
        linkStreamTo(stream, linked, metadata) {
            write(text(stream, 'linkStreamTo: the stream'), '$@', false,
                text(linked, 'linkStreamTo: the linked stream'),
                metadataOf(metadata, 'linkStreamTo: the metadata'));
        },
        copyTo(stream, event, metadata) {
            const { eventType, isJson, bodyRaw } = object(event, 'copyTo: the event');
            write(text(stream, 'copyTo: the stream'), text(eventType, 'copyTo: the event type'),
                isJson === true, String(bodyRaw), metadataOf(metadata, 'copyTo: the metadata'));
        },
        log(...given) {
            lines.push(given.map((value) =>
                typeof value === 'object' ? stringify(value) : String(value)).join(', '));
        },
    };

    // ---- an event, as a handler sees it; what is JSON is parsed when it is asked for

    const lazily = (raw) => function () {
        const value = this[raw];
        return value === undefined || value === '' ? null : parse(value);
    };
    class Event {
        constructor(fields) {
            [this.streamId, this.sequenceNumber, this.eventType, this.eventId, this.isJson,
                this.bodyRaw, this.metadataRaw, this.linkMetadataRaw, this.partition,
                this.category] = fields;
        }

        toJSON() {
            const { body, data, metadata, linkMetadata } = this;
            return { ...this, body, data, metadata, linkMetadata };
        }
    }
    const cached = (name, read) => defineProperty(Event.prototype, name, {
        get() {
            const value = read.call(this);
            defineProperty(this, name, { value, enumerable: false });
            return value;
        },
    });
    const body = lazily('bodyRaw');
    // The two names are one value: what a handler does to the one, it sees in the other.
    cached('body', function () { return this.isJson ? body.call(this) : undefined; });
    defineProperty(Event.prototype, 'data', { get() { return this.body; } });
    cached('metadata', lazily('metadataRaw'));
    cached('linkMetadata', lazily('linkMetadataRaw'));

    // ---- what drives it

    const stated = (value) => (value === undefined || value === null ? null : stringify(value));
    const told = () => {
        if (written.length === 0 && lines.length === 0) return null;
        const answer = stringify([written, lines]);
        written = [];
        lines = [];
        return answer;
    };
    const given = (partition) => (said.biState ? [states.get(partition), shared] : states.get(partition));
    const taken = (partition, answer) => {
        if (answer === undefined) return;
        if (!said.biState) {
            states.set(partition, answer);
            return;
        }
        if (!isArray(answer)) throw new TypeError('with two states a handler returns an array of both');
        states.set(partition, answer[0]);
        shared = answer[1];
    };
    const handled = (handler) => {
        handling = true;
        try {
            const answer = handler();
            if (answer instanceof Promise) {
                throw new TypeError('a handler answers a state at once: it cannot be async');
            }
            return answer;
        } finally {
            handling = false;
        }
    };
    const apply = (partition, handler, event) => {
        const state = given(partition);
        const answer = handled(() => handler(state, event));
        taken(partition, answer === undefined && said.biState ? state : answer);
    };

    for (const name of keys(sources)) globalThis[name] = sources[name];
    return freeze({
        begin() {
            for (const name of keys(sources)) delete globalThis[name];
            for (const name of keys(deeds)) globalThis[name] = deeds[name];
            return stringify(said);
        },
        partition(...fields) {
            const name = partitionBy(new Event(fields));
            return typeof name === 'string' || typeof name === 'number' ? String(name) : null;
        },
        load(partition, state) {
            states.set(partition, state === undefined ? (init === null ? {} : init()) : parse(state));
        },
        loadShared(state) {
            shared = state === undefined ? (initShared === null ? {} : initShared()) : parse(state);
        },
        created(...fields) {
            const event = new Event(fields);
            for (const handler of created) apply(event.partition, handler, event);
            return told();
        },
        handle(...fields) {
            const event = new Event(fields);
            const handler = handlers.has(event.eventType) ? handlers.get(event.eventType) : any;
            if (handler !== null) {
                apply(event.partition, handler, event);
            } else if (!said.fold) {
                states.set(event.partition, event.isJson ? event.body : event.bodyRaw);
            }
            return told();
        },
        deleted(partition, softly) {
            const state = given(partition);
            taken(partition, handled(() => deleted(state, null, partition, softly)));
            return told();
        },
        state: (partition) => stated(states.get(partition)),
        shared: () => stated(shared),
        result(partition) {
            let result = states.get(partition);
            for (const { filters, of } of transforms) {
                if (result === undefined || result === null) return null;
                const answer = of(result);
                if (!filters) result = answer;
                else if (answer !== true) return null;
            }
            return stated(result);
        },
        forget(partition) { states.delete(partition); },
    });
})();
