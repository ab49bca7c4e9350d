/*
 * _unpack: xz, lzma and bzip2 for a program without the standard library's modules for them.
 *
 *     Decoder(kind, memory) -> a stream of "xz" (also finds lzma) or "bzip2"; memory is the limit for xz in bytes
 *     .decompress(data, limit) -> bytes    at most limit (>= 1) of them; what is not taken yet is kept for later calls
 *     .eof            whether the stream ended; what follows it is ignored
 *     .needs_input    whether nothing comes before more data is given
 *
 * As lzma.LZMADecompressor and bz2.BZ2Decompressor have it.  Raises ValueError for damaged data, MemoryError.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <bzlib.h>
#include <lzma.h>
#include <string.h>

enum kind { XZ, BZIP2 };

typedef struct {
    PyObject_HEAD
    enum kind kind;
    int ready, eof, needs_input;
    lzma_stream xz;
    bz_stream bz;
    unsigned char *kept; /* input that no call has taken yet */
    size_t kept_size;
} Decoder;

static void decoder_dealloc(Decoder *self)
{
    if (self->ready) {
        if (self->kind == XZ)
            lzma_end(&self->xz);
        else
            BZ2_bzDecompressEnd(&self->bz);
    }
    PyMem_Free(self->kept);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int decoder_init(Decoder *self, PyObject *args, PyObject *names)
{
    const char *kind;
    unsigned long long memory;

    (void)names;
    if (self->ready) {
        PyErr_SetString(PyExc_ValueError, "a decoder is made once");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "sK", &kind, &memory))
        return -1;
    if (strcmp(kind, "xz") == 0) {
        self->kind = XZ;
        self->ready = lzma_auto_decoder(&self->xz, memory, 0) == LZMA_OK;
    } else if (strcmp(kind, "bzip2") == 0) {
        self->kind = BZIP2;
        self->ready = BZ2_bzDecompressInit(&self->bz, 0, 0) == BZ_OK;
    } else {
        PyErr_SetString(PyExc_ValueError, "no such kind");
        return -1;
    }
    if (!self->ready) {
        PyErr_NoMemory();
        return -1;
    }
    self->needs_input = 1;
    return 0;
}

/* One step of either library: 1 at the end of the stream, 0 to go on, -1 with an exception. */
static int step(Decoder *self)
{
    int status;

    if (self->kind == XZ) {
        status = lzma_code(&self->xz, LZMA_RUN);
        if (status == LZMA_MEM_ERROR) {
            PyErr_NoMemory();
            return -1;
        }
        if (status == LZMA_STREAM_END)
            return 1;
        if (status == LZMA_OK || status == LZMA_BUF_ERROR)
            return 0;
        PyErr_Format(PyExc_ValueError, "%s", status == LZMA_MEMLIMIT_ERROR ? "it wants too much memory"
                                             : status == LZMA_OPTIONS_ERROR ? "it uses a filter that is not known"
                                                                            : "the data are damaged");
        return -1;
    }
    status = BZ2_bzDecompress(&self->bz);
    if (status == BZ_MEM_ERROR) {
        PyErr_NoMemory();
        return -1;
    }
    if (status == BZ_STREAM_END)
        return 1;
    if (status == BZ_OK)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the data are damaged");
    return -1;
}

static void give(Decoder *self, const unsigned char *input, size_t input_size, unsigned char *output, size_t size)
{
    if (self->kind == XZ) {
        self->xz.next_in = input;
        self->xz.avail_in = input_size;
        self->xz.next_out = output;
        self->xz.avail_out = size;
    } else {
        self->bz.next_in = (char *)input;
        self->bz.avail_in = (unsigned int)input_size;
        self->bz.next_out = (char *)output;
        self->bz.avail_out = (unsigned int)size;
    }
}

static size_t input_left(const Decoder *self) { return self->kind == XZ ? self->xz.avail_in : self->bz.avail_in; }
static size_t output_left(const Decoder *self) { return self->kind == XZ ? self->xz.avail_out : self->bz.avail_out; }

/* The input of this call: what was kept, and then the new data.  The caller frees it. */
static unsigned char *gather(Decoder *self, const Py_buffer *data, size_t *size)
{
    unsigned char *input;

    *size = self->kept_size + (size_t)data->len;
    input = PyMem_Malloc(*size ? *size : 1);
    if (input == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (self->kept_size)
        memcpy(input, self->kept, self->kept_size);
    if (data->len)
        memcpy(input + self->kept_size, data->buf, (size_t)data->len);
    PyMem_Free(self->kept);
    self->kept = NULL;
    self->kept_size = 0;
    return input;
}

static PyObject *decoder_decompress(Decoder *self, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t limit;
    PyObject *result = NULL;
    unsigned char *input;
    size_t size, left, before;
    int ended = 0;

    if (!PyArg_ParseTuple(args, "y*n", &data, &limit))
        return NULL;
    if (!self->ready || self->eof || limit < 1 || limit > 1 << 30 || data.len > 1 << 30) {
        PyErr_SetString(PyExc_ValueError, "not ready, at the end, or a size beyond 1 GiB");
        goto out;
    }
    input = gather(self, &data, &size);
    if (input == NULL)
        goto out;
    result = PyBytes_FromStringAndSize(NULL, limit);
    if (result == NULL)
        goto free_input;
    give(self, input, size, (unsigned char *)PyBytes_AS_STRING(result), (size_t)limit);
    do {
        before = input_left(self) + output_left(self);
        ended = step(self);
    } while (ended == 0 && output_left(self) > 0 && input_left(self) + output_left(self) != before);
    if (ended < 0) {
        Py_CLEAR(result);
        goto free_input;
    }
    self->eof = ended;
    left = input_left(self);
    self->needs_input = !ended && left == 0 && output_left(self) > 0;
    if (!ended && left) {
        self->kept = PyMem_Malloc(left);
        if (self->kept == NULL) {
            Py_CLEAR(result);
            PyErr_NoMemory();
            goto free_input;
        }
        memcpy(self->kept, input + (size - left), left);
        self->kept_size = left;
    }
    _PyBytes_Resize(&result, limit - (Py_ssize_t)output_left(self));
free_input:
    PyMem_Free(input);
out:
    PyBuffer_Release(&data);
    return result;
}

static PyObject *decoder_eof(Decoder *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->eof);
}

static PyObject *decoder_needs_input(Decoder *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->needs_input);
}

static PyMethodDef methods[] = {
    {"decompress", (PyCFunction)decoder_decompress, METH_VARARGS, "decompress(data, limit) -> bytes"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"eof", (getter)decoder_eof, NULL, "whether the stream ended", NULL},
    {"needs_input", (getter)decoder_needs_input, NULL, "whether nothing comes before more data is given", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_unpack.Decoder",
    .tp_basicsize = sizeof(Decoder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A stream of xz, lzma or bzip2.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)decoder_init,
    .tp_dealloc = (destructor)decoder_dealloc,
    .tp_methods = methods,
    .tp_getset = attributes,
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_unpack",
    .m_doc = "Decoders of xz, lzma and bzip2.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__unpack(void)
{
    PyObject *module;

    if (PyType_Ready(&type) < 0)
        return NULL;
    module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    Py_INCREF(&type);
    if (PyModule_AddObject(module, "Decoder", (PyObject *)&type) < 0) {
        Py_DECREF(&type);
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
